import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from django.db import connection

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
