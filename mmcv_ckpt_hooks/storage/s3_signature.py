"""Requests to S3 that the client for object stores has no call for.

Source: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API
reference.
"""
import datetime
import hashlib
import hmac
import http.client
import os
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, NamedTuple, Optional
from urllib.parse import quote, urlsplit

from .aws_profile import IN_ENVIRONMENT

_EMPTY_SHA256 = hashlib.sha256(b'').hexdigest()
_TIMEOUT_SECS = 30.


class Response(NamedTuple):
    """What the store answers.

    Args:
        body (bytes): Of the response.
        date (str): Its clock, as HTTP writes it; empty if it tells none.
    """
    body: bytes
    date: str


@dataclass(frozen=True)
class S3Requests:
    """Signs and sends requests to one bucket.

    Args:
        bucket_url (str): Without a slash at the end.
        region (str): Of the bucket.
        key (str): Id of the access key.
        secret (str): The key itself.
        token (str): Of the session; empty if there is none.
    """
    bucket_url: str
    region: str
    key: str
    secret: str = field(repr=False)
    token: str = field(repr=False)

    def send(self,
             method: str,
             path: str = '',
             query: Optional[Mapping[str, str]] = None) -> Response:
        """Send a request without a body.

        Raises:
            OSError: If it does not come to an answer of success; with the
                HTTP status as ``code`` where there is one.
        """
        quoted = quote(path, safe='/')
        url = f'{self.bucket_url}/{quoted}' if path else self.bucket_url
        text = '&'.join(f'{quote(name, safe="")}={quote(value, safe="")}'
                        for name, value in sorted((query or {}).items()))
        request = urllib.request.Request(
            f'{url}?{text}' if text else url,
            method=method,
            headers=self._headers(method, url, text))
        try:
            with closing(
                    urllib.request.urlopen(request,
                                           timeout=_TIMEOUT_SECS)) as answer:
                return Response(answer.read(), answer.headers.get('Date', ''))
        except urllib.error.HTTPError as error:
            error.close()  # it keeps the connection open
            raise
        except http.client.HTTPException as error:
            raise OSError(f'{type(error).__name__}: {error}') from error

    def _headers(self, method: str, url: str, query: str) -> Dict[str, str]:
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp = now.strftime('%Y%m%dT%H%M%SZ')
        parts = urlsplit(url)
        headers = {
            'host': parts.netloc,
            'x-amz-content-sha256': _EMPTY_SHA256,
            'x-amz-date': stamp
        }
        if self.token:
            headers['x-amz-security-token'] = self.token
        signed = ';'.join(sorted(headers))
        canonical = '\n'.join([
            method, parts.path or '/', query,
            *(f'{name}:{headers[name]}' for name in sorted(headers)), '',
            signed, _EMPTY_SHA256
        ])
        scope = f'{stamp[:8]}/{self.region}/s3/aws4_request'
        key = f'AWS4{self.secret}'.encode()
        for part in scope.split('/'):
            key = _hmac(key, part)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = _hmac(key, f'AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}')
        headers['Authorization'] = (
            f'AWS4-HMAC-SHA256 Credential={self.key}/{scope}, '
            f'SignedHeaders={signed}, Signature={signature.hex()}')
        return headers


def requests_to(bucket: str, config: Mapping[str, Any]) -> \
        Optional[S3Requests]:
    """Return what signs requests to a bucket.

    Args:
        bucket (str): Its name.
        config (dict): The client's options, by their plain names.

    Returns:
        S3Requests | None: None where only the client knows the credentials
        (roles of instances and containers).
    """

    def value(name: str) -> str:
        found = [config.get(name)
                 ] + [os.environ.get(one) for one in IN_ENVIRONMENT[name]]
        return next((str(one) for one in found if one), '')

    key, secret = value('access_key_id'), value('secret_access_key')
    if not key or not secret:
        return None
    region = value('region') or config.get('default_region') or 'us-east-1'
    endpoint = str(
        config.get('aws_endpoint_url_s3') or config.get('endpoint_url')
        or value('endpoint')
        or f'https://s3.{region}.amazonaws.com').rstrip('/')
    has_bucket = str(config.get('virtual_hosted_style_request')).lower() == \
        'true' and bool(value('endpoint'))
    return S3Requests(
        endpoint if has_bucket else f'{endpoint}/{bucket}', region, key,
        secret,
        value('session_token') if config.get('session_token')
        or not config.get('access_key_id') else '')


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
