"""This machine: processes, signals, heartbeat, resource usage, speed."""
