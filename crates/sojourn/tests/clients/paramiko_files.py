"""Files as programs in Python move them: whole, in parts, many at once."""

import io
import os
import sys
import threading

from common import connect, say

client = connect()
sftp = client.open_sftp()
directory = f"d-{os.getpid()}"
sftp.mkdir(directory)
noise = os.urandom(300_000)

if sys.argv[1:] == ["many"]:
    wrong = []

    def copy(number):
        own = client.open_sftp()
        for n in range(50):
            name = f"{directory}/{number}-{n}"
            own.putfo(io.BytesIO(noise[:n * 100]), name)
            back = io.BytesIO()
            own.getfo(name, back)
            if back.getvalue() != noise[:n * 100]:
                wrong.append(name)
            own.remove(name)
        own.close()

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    say("many", not wrong)
else:
    sftp.putfo(io.BytesIO(noise), f"{directory}/a")
    back = io.BytesIO()
    sftp.getfo(f"{directory}/a", back)
    whole = back.getvalue() == noise
    with sftp.open(f"{directory}/b", "w+") as file:
        for at in (200_000, 0, 100_000):
            file.seek(at)
            file.write(noise[at:at + 100_000])
        file.flush()
        parts = []
        for at in (150_000, 0, 299_000):
            file.seek(at)
            parts.append(file.read(1000) == noise[at:at + 1000])
    say("whole", whole)
    say("parts", all(parts))
    say("names", sorted(sftp.listdir(directory)))
    try:
        sftp.stat(f"{directory}/c")
    except OSError as error:
        say("missing", error.errno)
    say("size", sftp.stat(f"{directory}/b").st_size)
    for name in ("a", "b"):
        sftp.remove(f"{directory}/{name}")

sftp.rmdir(directory)
client.close()
