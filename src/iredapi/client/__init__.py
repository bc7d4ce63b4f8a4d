"""What the commands do as clients of the API: of a remote service, or of one in this process."""
