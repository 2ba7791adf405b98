"""Files by Paramiko and asyncssh: whole and in part, listed, renamed, removed, many at a time."""

import asyncio
import io
import os
import stat
import warnings

warnings.filterwarnings("ignore")

import asyncssh  # noqa: E402

from common import connect, say  # noqa: E402

noise = os.urandom(3_000_000)


def by_paramiko():
    client = connect()
    files = client.open_sftp()
    files.mkdir("d")
    files.putfo(io.BytesIO(noise), "d/a")
    with files.open("d/a") as file:
        file.prefetch()
        whole = file.read() == noise
        file.seek(1_000_000)
        part = file.read(10) == noise[1_000_000:1_000_010]
    with files.open("d/a", "a") as file:
        file.write("end")
    size = files.stat("d/a").st_size
    files.chmod("d/a", 0o640)
    files.utime("d/a", (1_000_000_000, 1_000_000_000))
    about = files.stat("d/a")
    files.symlink("a", "d/link")
    files.rename("d/a", "d/b")
    listed = sorted(files.listdir("d"))
    say("paramiko", whole, part, size, oct(stat.S_IMODE(about.st_mode)), int(about.st_mtime), listed, files.readlink("d/link"))
    for name in ("d/b", "d/link"):
        files.remove(name)
    files.rmdir("d")
    try:
        files.stat("d")
    except FileNotFoundError:
        say("gone")
    client.close()


async def by_asyncssh():
    options = {"known_hosts": None, "config": []}
    port, user, key = int(os.environ["PORT"]), os.environ["USER"], os.environ["KEY"]
    with open("noise", "wb") as file:
        file.write(noise)
    os.makedirs("tree/below", exist_ok=True)
    for number in range(20):
        with open(f"tree/below/{number}", "w") as file:
            file.write(str(number))
    async with asyncssh.connect("127.0.0.1", port, username=user, client_keys=[key], **options) as connection:
        async with connection.start_sftp_client() as files:
            await files.put("noise", "noise")
            await files.put("tree", recurse=True)
            found = sorted(await files.glob("tree/below/1?"))
            await asyncio.gather(*[files.get("noise", f"back-{number}") for number in range(4)])
            back = all(open(f"back-{number}", "rb").read() == noise for number in range(4))
            say("asyncssh", len(found), back, (await files.statvfs("/")).bsize > 0)
        # The old protocol of scp, in its own implementation.
        await asyncssh.scp("noise", (connection, "copied"))
        await asyncssh.scp((connection, "tree"), "copied-tree", recurse=True)
        say("scp", (await connection.run("cmp noise copied && echo same")).stdout.strip(), len(os.listdir("copied-tree/below")))


by_paramiko()
asyncio.run(by_asyncssh())
