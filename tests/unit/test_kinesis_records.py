"""Records of a Lambda event are what the producer put, whatever its base64 looks like."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.adapters.kinesis import decode_records
from headrace.events import Record


def invocation(*texts: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventID": f"shardId-000000000000:{number}",
                "kinesis": {
                    "data": text,
                    "sequenceNumber": str(number),
                    "approximateArrivalTimestamp": 1_750_000_000.123,
                },
            }
            for number, text in enumerate(texts)
        ]
    }


@given(payloads=st.lists(st.binary(max_size=200)))
@settings(max_examples=100, derandomize=True)
def test_payloads_are_the_bytes_that_were_put(payloads: list[bytes]) -> None:
    found = decode_records(invocation(*[b64encode(each).decode() for each in payloads]))
    assert [record.data for record in found] == payloads


def test_record_has_its_arrival_position_and_sequence_number() -> None:
    (found,) = decode_records(invocation("e30="))
    assert found == Record(b"{}", 1_750_000_000_123_000, "shardId-000000000000:0", "0")


def test_base64_in_lines_is_taken_and_so_are_its_neighbours() -> None:
    found = decode_records(invocation("e3\n0=", "W10="))
    assert [record.data for record in found] == [b"{}", b"[]"]
