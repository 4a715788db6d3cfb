"""What a deployment costs, and what breaks first as traffic grows: arithmetic, no AWS."""
