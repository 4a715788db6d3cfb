"""Work away from the stream: simulate, replay, train. No function that scores imports this."""
