"""What real time would have been worth on one history: stages side by side. START in stages.py."""
