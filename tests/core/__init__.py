"""Jobs, rooms and what clients hear of them, through real connections."""
