"""Signs requests for `cargo xtask bench kms`: files of raw HTTP/1.1 requests, each preceded by its
length on a line. The signatures hold for five minutes."""

import base64
import json
import os
import sys
import urllib.parse

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "eu-central-1"
COUNT = 256


def main(endpoint, folder):
    access_key = os.environ["AWS_ACCESS_KEY_ID"]
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    kms = boto3.client("kms", region_name=REGION, endpoint_url=endpoint,
                       aws_access_key_id=access_key, aws_secret_access_key=secret)
    key = kms.create_key(Description="bench")["KeyMetadata"]["Arn"]
    host = urllib.parse.urlparse(endpoint).netloc

    def raw(operation, arguments):
        data = json.dumps(arguments).encode()
        request = AWSRequest("POST", endpoint + "/", data=data, headers={
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"TrentService.{operation}",
        })
        SigV4Auth(Credentials(access_key, secret), "kms", REGION).add_auth(request)
        headers = {"Host": host, "Content-Length": str(len(data)), **dict(request.headers.items())}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST / HTTP/1.1\r\n{head}\r\n".encode() + data

    def context(n):
        return {"tenant": f"t-{n}", "purpose": "at-rest"}

    def decrypt(n, **more):
        blob = kms.encrypt(KeyId=key, Plaintext=os.urandom(32), EncryptionContext=context(n))
        return raw("Decrypt", {"CiphertextBlob": base64.b64encode(blob["CiphertextBlob"]).decode(),
                               "EncryptionContext": context(n), **more})

    requests = {
        "healthz": lambda n: f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
        "DescribeKey": lambda n: raw("DescribeKey", {"KeyId": key}),
        "GenerateDataKey": lambda n: raw("GenerateDataKey", {
            "KeyId": key, "KeySpec": "AES_256", "EncryptionContext": context(n)}),
        "Decrypt": decrypt,
        "Decrypt-DryRun": lambda n: decrypt(n, DryRun=True),
    }
    for name, make in requests.items():
        with open(os.path.join(folder, name), "wb") as file:
            for n in range(COUNT):
                request = make(n)
                file.write(str(len(request)).encode() + b"\n" + request)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
