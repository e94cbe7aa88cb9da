"""What is known of a request of the client that got no answer."""
import re
from typing import NamedTuple, Optional

_ENDPOINT = re.compile(r'Error performing \w+ (https?://[^/\s?]+)')
#: As the client begins to tell of it; with an answer comes a status instead.
_NONE = re.compile(r'HTTP error: |HttpError \{')

_NETWORK = 'Check the network, and whether the server runs'
_SPELLING = 'Check how the endpoint (or the region) is spelt'
#: By what the client says of the connection: what that means, and the next
#: step.
_REASONS = (
    ('Connection ?refused', 'nobody listens there',
     'Check the endpoint and its port, and whether the server runs'),
    ('dns error|failed to lookup address', 'that name is not known',
     _SPELLING),
    ('InvalidContentType|corrupt message', 'it speaks no TLS',
     'Check whether the endpoint is an http:// one'),
    ('UnknownIssuer|invalid peer certificate', 'its certificate is not one '
     'that this machine trusts', 'Give its authority in storage_options, '
     'client_options=dict(root_certificate=...)'),
    ('(Network|Host) ?unreachable', 'there is no way to it', _NETWORK),
    ('TimedOut|timed out|Timeout', 'it took too long', f'{_NETWORK}; '
     'storage_options has client_options=dict(timeout=...)'),
    ('ConnectionReset|IncompleteMessage|UnexpectedEof|connection closed',
     'the connection was cut', _NETWORK),
)


class NoAnswer(NamedTuple):
    """Why nothing came, and from where.

    Args:
        told (str): Both, in a few words.
        advice (str): What to do about it.
    """
    told: str
    advice: str


def no_answer(text: str) -> Optional[NoAnswer]:
    """Read an error of the client; None if there was an answer.

    Args:
        text (str): All that it says.
    """
    if not _NONE.search(text):
        return None
    endpoint = _ENDPOINT.search(text)
    place = endpoint.group(1) if endpoint else 'the store'
    for pattern, reason, advice in _REASONS:
        if re.search(pattern, text):
            return NoAnswer(f'no answer from {place}: {reason}', advice)
    return NoAnswer(f'no answer from {place}', _NETWORK)
