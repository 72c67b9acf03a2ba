"""A thousand streams at once: all are answered in full, by few threads."""

import asyncio
import json
import resource
import unittest

from engine_server import Server, post_bytes, sse_events

STREAMS, TOKENS = 1000, 4


async def stream(server, number):
    """The text of one stream, and whether all of it came."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    body = {"prompt": f"Number {number % 10} is", "max_tokens": TOKENS, "temperature": 0,
            "ignore_eos": True, "stream": True}
    writer.write(post_bytes("/v1/completions", body, ("Connection: close",)))
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200 "), head
    chunks = []
    while (size := int(await reader.readline(), 16)) != 0:
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    writer.close()
    return "".join(c["text"] for e in sse_events(chunks) for c in e["choices"])


class ThousandTest(unittest.TestCase):
    def test_thousand_streams(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2 * STREAMS:
            self.skipTest(f"only {hard} files may be open")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * STREAMS), hard))
        with Server() as server:
            alone = [server.complete(f"Number {i} is", max_tokens=TOKENS, ignore_eos=True)
                     for i in range(10)]
            most = 0

            async def all_of_them():
                nonlocal most
                tasks = [asyncio.create_task(stream(server, i)) for i in range(STREAMS)]
                gathered = asyncio.gather(*tasks)
                while not gathered.done():
                    most = max(most, server.threads())
                    await asyncio.sleep(0.05)
                return gathered.result()

            texts = asyncio.run(all_of_them())
            self.assertEqual(texts, [alone[i % 10] for i in range(STREAMS)])
            self.assertGreater(most, 0)
            self.assertLess(most, 64)
            server.until_free()
            values = server.metrics()
            self.assertEqual(values['engine_http_responses_total'
                                    '{route="/v1/completions",status="200"}'], STREAMS + 10)
            self.assertEqual(values["engine_http_aborted_total"], 0)
            self.assertEqual(json.dumps(texts).count("\ufffd"), 0)


if __name__ == "__main__":
    unittest.main()
