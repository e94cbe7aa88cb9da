"""A bad network between a client of an object store and its server.

It forwards whole HTTP/1.1 requests, byte for byte (the signature covers the
``Host`` header), counts them, and makes those fail that it was told to.
"""
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from typing import NamedTuple

#: So long an answer is held back that comes too late (seconds).
DELAY_SECS = 0.6
#: So long nobody listens while the server is said to be offline (seconds).
OFFLINE_SECS = 0.15

_BLOCK = 1 << 16
_NO_BODY = (b'204', b'304')


class Cut(Exception):
    """The connection ends here."""


class Message(NamedTuple):
    """A request or an answer, as it came.

    Args:
        head (bytes): First line and headers, with the empty line.
        body (bytes): All of it, chunked if it came so.
    """
    head: bytes
    body: bytes

    @property
    def line(self):
        return self.head.partition(b'\r\n')[0].decode('latin-1')


class Exchange:
    """One request on its way; what a fault has to work with."""

    def __init__(self, proxy, request, client):
        self.proxy = proxy
        self.request = request
        self.client = client
        self.is_head = request.head.startswith(b'HEAD ')

    def forward(self, share=1.):
        """Have the server answer; with less than all of the request it
        hears no more."""
        data = self.request.head + self.request.body
        with ExitStack() as stack:
            server = stack.enter_context(
                socket.create_connection(self.proxy.server, timeout=60))
            if share < 1.:
                keep = len(self.request.body or self.request.head) * share
                lost = len(self.request.body or self.request.head) - int(keep)
                server.sendall(data[:len(data) - lost])
                raise Cut
            server.sendall(data)
            reader = stack.enter_context(server.makefile('rb'))
            answer = _read(reader, self.is_head)
        if answer is None:
            raise Cut
        return answer

    def send(self, *parts):
        for part in parts:
            self.client.sendall(part)

    def pass_on(self, answer):
        """Answer as if there were no fault."""
        self.proxy.spare()
        self.send(*answer)


def cut_before(exchange):
    """The server never hears of it."""
    raise Cut


def cut_in_request(exchange):
    """The server hears half of it."""
    exchange.forward(share=0.5)


def cut_after(exchange):
    """The server has done it; nobody says so."""
    exchange.forward()
    raise Cut


def reset_after(exchange):
    """As `cut_after`; the client's system reports a reset."""
    exchange.forward()
    exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack('ii', 1, 0))
    raise Cut


def late(exchange):
    """The server has done it, and says so too late."""
    exchange.forward()
    exchange.proxy.closed.wait(DELAY_SECS)
    raise Cut


def truncated(exchange):
    """Half of the answer's body comes, or half of its head."""
    answer = exchange.forward()
    if answer.body:
        exchange.send(answer.head, answer.body[:len(answer.body) // 2])
    else:
        exchange.send(answer.head[:len(answer.head) // 2])
    raise Cut


def shortened(exchange):
    """Of the answer's body the end is missing, and its length is that of
    what comes."""
    answer = exchange.forward()
    if not answer.body or b'\r\ncontent-length:' not in answer.head.lower():
        exchange.pass_on(answer)
        return
    body = answer.body[:len(answer.body) // 2]
    lines = answer.head.split(b'\r\n')
    lines = [
        b'Content-Length: %d' %
        len(body) if line.lower().startswith(b'content-length:') else line
        for line in lines
    ]
    exchange.send(b'\r\n'.join(lines), body)


def flipped(exchange):
    """One bit in the middle of the answer's body is another."""
    answer = exchange.forward()
    body = bytearray(answer.body)
    if not body:
        exchange.pass_on(answer)
        return
    body[len(body) // 2] ^= 1
    exchange.send(answer.head, bytes(body))


def flipped_request(exchange):
    """One bit in the middle of the request's body is another."""
    body = bytearray(exchange.request.body)
    if not body:
        exchange.pass_on(exchange.forward())
        return
    body[len(body) // 2] ^= 1
    exchange.request = Message(exchange.request.head, bytes(body))
    exchange.send(*exchange.forward())


def offline(exchange):
    """Nobody listens for a while."""
    exchange.proxy.stop()
    timer = threading.Timer(OFFLINE_SECS, exchange.proxy.start)
    timer.daemon = True
    timer.start()
    raise Cut


def _refusal(status, code, of_bodies=False):

    def answer(exchange):
        if of_bodies and not exchange.request.body:
            exchange.pass_on(exchange.forward())
            return
        body = b'' if exchange.is_head else (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<Error><Code>{code}</Code><Message>A fault.</Message></Error>'
        ).encode()
        exchange.send(
            f'HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n'
            f'Content-Length: {len(body)}\r\n\r\n'.encode(), body)

    answer.__doc__ = f'The server says {status}, {code}.'
    return answer


def upload_is_gone(exchange):
    """An upload is completed; asked again, the server has forgotten it."""
    answer = exchange.forward()
    if 'uploadId=' in exchange.request.line and \
            exchange.request.line.startswith('POST'):
        _refusal('404 Not Found', 'NoSuchUpload')(exchange)
    else:
        exchange.pass_on(answer)


def no_listing(exchange):
    """In the place of a listing comes an error that says it is none."""
    answer = exchange.forward()
    if 'list-type=2' in exchange.request.line:
        _refusal('200 OK', 'InternalError')(exchange)
    else:
        exchange.pass_on(answer)


#: By name: what passes by itself, so that the same request may be sent again.
TRANSIENT = dict(
    cut_before=cut_before,
    cut_in_request=cut_in_request,
    cut_after=cut_after,
    reset_after=reset_after,
    late=late,
    error_500=_refusal('500 Internal Server Error', 'InternalError'),
    slow_down=_refusal('503 Slow Down', 'SlowDown'),
    # S3 says so when a body does not come
    timeout_400=_refusal('400 Bad Request', 'RequestTimeout', True),
    upload_is_gone=upload_is_gone,
    truncated=truncated,
    shortened=shortened,
    flipped_request=flipped_request,
    no_listing=no_listing,
    offline=offline)
#: By name: what is answered, or cannot be noticed on the way.
LASTING = dict(
    refused=_refusal('403 Forbidden', 'AccessDenied'),
    missing=_refusal('404 Not Found', 'NoSuchKey'),
    no_upload=_refusal('404 Not Found', 'NoSuchUpload'),
    no_bucket=_refusal('404 Not Found', 'NoSuchBucket'),
    flipped=flipped)
FAULTS = {**TRANSIENT, **LASTING}


class FaultProxy:
    """Listens on loopback and forwards to a server.

    Args:
        endpoint (str): URL of the server.
    """

    def __init__(self, endpoint):
        host, port = endpoint.split('//')[1].split(':')
        self.server = host, int(port)
        self.closed = threading.Event()
        self._mutex = threading.Lock()
        self._clients = set()
        self._listener = None
        self._port = 0
        self._choose = lambda number, line: None
        #: first lines of all requests since the last `arm`
        self.lines = []
        #: how many of them failed
        self.injected = 0
        self.start()
        self.endpoint = f'http://127.0.0.1:{self._port}'

    def arm(self, choose=lambda number, line: None):
        """Count from one again.

        Args:
            choose (callable): Called with the number of a request and its
                first line; returns its fault, or None.
        """
        with self._mutex:
            self._choose = choose
            self.lines = []
            self.injected = 0

    def arm_at(self, fault, at, times=1):
        """Let one request fail, or some that follow each other."""
        self.arm(lambda number, line: fault
                 if at <= number < at + times else None)

    def start(self):
        """Listen, at the address from before."""
        with self._mutex:
            if self._listener is not None or self.closed.is_set():
                return
            self._listener = socket.create_server(('127.0.0.1', self._port))
            self._port = self._listener.getsockname()[1]
            threading.Thread(
                target=self._accept, args=(self._listener, ),
                daemon=True).start()

    def stop(self):
        """Refuse connections, and cut those that there are."""
        with self._mutex:
            listener, self._listener = self._listener, None
            clients = list(self._clients)
        for one in clients + ([] if listener is None else [listener]):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self):
        self.closed.set()
        self.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._mutex:
                if self._listener is not listener:
                    # stopped since: nobody would cut this one
                    client.close()
                    return
                self._clients.add(client)
            threading.Thread(
                target=self._serve, args=(client, ), daemon=True).start()

    def _serve(self, client):
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client, client.makefile('rb') as reader:
                while True:
                    request = _read(reader)
                    if request is None:
                        break
                    self._answer(Exchange(self, request, client))
        except (OSError, Cut):
            pass  # closed; the client sees it
        finally:
            with self._mutex:
                self._clients.discard(client)

    def _answer(self, exchange):
        with self._mutex:
            self.lines.append(exchange.request.line)
            fault = self._choose(len(self.lines), self.lines[-1])
            self.injected += fault is not None
        if fault is None:
            exchange.send(*exchange.forward())
        else:
            fault(exchange)

    def spare(self):
        """A fault has found a request that it is not for."""
        with self._mutex:
            self.injected -= 1


def _read(reader, without_body=False):
    """Read one message; None at the end of the connection."""
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        line = reader.readline(_BLOCK)
        if not line:
            return None
        head += line
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b':')
                               for line in head.split(b'\r\n')[1:])
    }
    status = head.split(b' ', 2)[1]
    if without_body or status in _NO_BODY:
        return Message(head, b'')
    if headers.get(b'transfer-encoding') == b'chunked':
        return Message(head, _chunks(reader))
    length = int(headers.get(b'content-length', 0))
    body = reader.read(length)
    return Message(head, body) if len(body) == length else None


def _chunks(reader):
    body = b''
    while True:
        line = reader.readline(_BLOCK)
        chunk = reader.read(int(line.split(b';')[0], 16) + 2)
        body += line + chunk
        if len(chunk) == 2:
            return body
