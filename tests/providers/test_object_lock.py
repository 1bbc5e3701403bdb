"""Objects under lock: what the storage itself says counts; see `control/audit/test_anchors.py`."""

from __future__ import annotations

import asyncio

import pytest

from tests.vendors.anchor_places import CREDENTIAL, Bucket, serving_bucket
from tokenschain.providers.object_lock import NotKept, ObjectLockBucket
from tokenschain.wire.client import HttpClient


def test_an_object_is_put_with_its_lock_and_each_time_as_another_version() -> None:
    bucket = Bucket()

    async def put() -> list[str]:
        with serving_bucket(bucket) as url:
            client = HttpClient()
            made = ObjectLockBucket(url, "cn-north-1", 30, lambda: CREDENTIAL, client)
            found = [(await made.put("a_b.note", b"x")).version for _ in range(2)]
            client.close()
            return found

    assert asyncio.run(put()) == ["v/0=", "v/1="]
    for data, lock in bucket.objects.values():
        assert data == b"x" and lock["x-amz-object-lock-mode"] == "COMPLIANCE"


def test_a_storage_that_is_not_there_is_said_without_the_key() -> None:
    made = ObjectLockBucket("http://127.0.0.1:9/b", "r", 1, lambda: CREDENTIAL, HttpClient())
    with pytest.raises(NotKept) as said:
        asyncio.run(made.put("a", b"x"))
    assert CREDENTIAL.partition(":")[2] not in str(said.value)
