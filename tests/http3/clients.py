"""Clients of HTTP/3 that are not ours: `clients.py curl|aioquic PORT CA`. Fails when an answer is not what was asked for."""

import asyncio
import ssl
import sys

which, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
BODY = bytes(range(256)) * 4000


def curl():
    try:
        from curl_cffi import CurlHttpVersion, requests
    except ImportError:
        print("curl_cffi is missing")
        return
    session = requests.Session(http_version=CurlHttpVersion.V3ONLY, verify=ca)
    base = f"https://localhost:{port}"
    for _ in range(3):
        answer = session.get(base + "/own")
        assert (answer.status_code, answer.text) == (200, "here"), answer
    answer = session.post(base + "/echo", data=BODY)
    assert answer.status_code == 200 and answer.content == BODY, len(answer.content)


async def aioquic():
    try:
        from aioquic.asyncio.client import connect
        from aioquic.asyncio.protocol import QuicConnectionProtocol
        from aioquic.h3.connection import H3_ALPN, H3Connection
        from aioquic.h3.events import DataReceived, HeadersReceived
        from aioquic.quic.configuration import QuicConfiguration
    except ImportError:
        print("aioquic is missing")
        return

    class Client(QuicConnectionProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.http = H3Connection(self._quic)
            self.streams = {}

        def quic_event_received(self, event):
            for heard in self.http.handle_event(event):
                status, body, done = self.streams[heard.stream_id]
                if isinstance(heard, HeadersReceived):
                    status = int(dict(heard.headers)[b":status"])
                elif isinstance(heard, DataReceived):
                    body += heard.data
                self.streams[heard.stream_id] = (status, body, done)
                if heard.stream_ended:
                    done.set_result((status, body))

        async def ask(self, method, path, body=b""):
            stream = self._quic.get_next_available_stream_id()
            done = asyncio.get_running_loop().create_future()
            self.streams[stream] = (0, b"", done)
            head = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
            self.http.send_headers(stream, head, end_stream=not body)
            if body:
                self.http.send_data(stream, body, end_stream=True)
            self.transmit()
            return await asyncio.wait_for(done, 15)

    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, server_name="localhost", cafile=ca)
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
        answers = await asyncio.gather(*(client.ask(b"GET", b"/own") for _ in range(50)))
        assert answers == [(200, b"here")] * 50, answers
        status, body = await client.ask(b"POST", b"/echo", BODY)
        assert status == 200 and body == BODY, (status, len(body))
        # From another port: a connection is not where it comes from.
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: client, local_addr=("::", 0))
        client._transport = transport
        assert await client.ask(b"GET", b"/own") == (200, b"here")
        client._quic.change_connection_id()
        assert await client.ask(b"GET", b"/own") == (200, b"here")


if which == "curl":
    curl()
else:
    asyncio.run(aioquic())
