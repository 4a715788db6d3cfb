"""Requests are signed to the letter as botocore signs them, whatever their body and credentials."""

from __future__ import annotations

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.signing import Signer

WORDS = st.text("abcXYZ019/+=_-.", min_size=1, max_size=40)


@given(
    keys=st.tuples(WORDS, WORDS, st.none() | WORDS),
    body=st.binary(max_size=200),
    host=st.sampled_from(["dynamodb.eu-central-1.amazonaws.com", "127.0.0.1:8000"]),
    region=st.sampled_from(["eu-central-1", "us-gov-west-1"]),
)
def test_signature_is_botocore_s(
    keys: tuple[str, str, str | None], body: bytes, host: str, region: str
) -> None:
    credentials = Credentials(*keys)
    headers = {"host": host, "content-type": "application/x-amz-json-1.0", "x-amz-target": "T.Op"}
    found = Signer(credentials, "dynamodb", region, headers).signed(body)
    given_headers = {name: value for name, value in found.items() if name != "authorization"}
    request = AWSRequest("POST", f"http://{host}/", given_headers, body)
    request.context["timestamp"] = found["x-amz-date"]
    auth = SigV4Auth(credentials.get_frozen_credentials(), "dynamodb", region)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(text, request))
    assert found["authorization"] == request.headers["Authorization"]
    assert found.get("x-amz-security-token") == keys[2]
