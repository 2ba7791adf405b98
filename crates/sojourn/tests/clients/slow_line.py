"""A bad line: passes connections on to PORT, each piece 50 ms late, two of a hundred 250 ms later still.

What is lost on a real line arrives late on a TCP connection, and everything behind it with it. Prints its
own port.
"""

import asyncio
import os
import random

chance = random.Random(7)


async def carry(reader, writer):
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue(256)

    async def deliver():
        while True:
            due, part = await queue.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if part is None:
                return writer.write_eof()
            writer.write(part)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    last = 0
    try:
        while True:
            part = await reader.read(16384)
            late = 0.05 + (0.25 if chance.random() < 0.02 else 0)
            last = max(last, loop.time() + late)
            await queue.put((last, part or None))
            if not part:
                break
        await delivering
    except OSError:
        delivering.cancel()
        writer.close()


async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", int(os.environ["PORT"]))
    await asyncio.gather(carry(reader, there[1]), carry(there[0], writer), return_exceptions=True)
    for end in (writer, there[1]):
        end.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
