"""What everything runs on: files, torch threads, description of the machine, executors."""
