#!/usr/bin/env python3
"""Orders of the last week, as a table."""
import subprocess

QUERY = "SELECT DATE(created), COUNT(*), SUM(total) FROM orders GROUP BY 1 ORDER BY 1 DESC LIMIT 7"

print(subprocess.run(["mysql", "-u", "report", "-pZahlen-Salat9", "shop", "-e", QUERY],
                     capture_output=True, text=True).stdout)
