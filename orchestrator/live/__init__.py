"""A live page of a table: what it shows, its laws, and the server. Read `server.py` first."""
