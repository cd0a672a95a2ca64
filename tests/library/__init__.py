"""The library: programs that show their own work, as processes of their own."""
