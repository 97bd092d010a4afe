"""The programs that are compared, a file each. They run until SIGTERM and take their settings from BENCH_ variables."""
