from dataclasses import replace

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from django.db import connection

from scaling_kit.embedded import free_port
from scaling_kit.testing import running, start, wait_until
from tests import settings as test_settings


@pytest.mark.django_db
def test_postgres__answers() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_s3__refuses_a_wrong_secret(s3: str) -> None:
    for secret, expected in ((test_settings.S3.secret_key, None), ("wrong", "SignatureDoesNotMatch")):
        client = boto3.client(
            "s3",
            endpoint_url=s3,
            region_name="us-east-1",
            aws_access_key_id=test_settings.S3.access_key,
            aws_secret_access_key=secret,
            config=Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"}),
        )
        if expected is None:
            client.put_object(Bucket="test", Key="hello", Body=b"hello")
        else:
            with pytest.raises(ClientError, match=expected):
                client.put_object(Bucket="test", Key="hello", Body=b"bye")


def test_postgres_killed_and_not_buried__starts_again() -> None:
    server = replace(test_settings.POSTGRES, folder=test_settings.FOLDER / "postgres-unburied", port=free_port())
    server.prepare()
    killed = start(server)
    try:
        wait_until(server.is_ready, timeout_seconds=60)
    finally:
        killed.kill()
    wait_until(lambda: psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE)
    with running(server):
        assert killed.returncode is None, "it is a zombie still"
    killed.wait()
