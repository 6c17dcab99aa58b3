"""What was looked up before an await is somebody else's, or gone, after it."""
