"""Reads cargo's messages and prints, for each test program: its directory and its path."""

import json
import os
import sys

for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message.get("executable"):
        if "test" in message["target"]["kind"]:
            print(os.path.dirname(message["manifest_path"]), message["executable"], sep="\t")
