"""Signs requests for `cargo xtask bench objects`: files of HTTP/1.1 heads, each preceded by its
length on a line. The bodies are not signed; their checksum is. The signatures hold for 15 minutes."""

import os
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


class Unsigned(SigV4Auth):
    def payload(self, request):
        return "UNSIGNED-PAYLOAD"


def main(host, region, bucket, folder, keys, size, checksum):
    credentials = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])

    def head(method, key, more):
        request = AWSRequest(method, f"http://{host}/{bucket}/{key}", headers={
            "Host": host, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD", **more})
        Unsigned(credentials, "s3", region).add_auth(request)
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        return f"{method} /{bucket}/{key} HTTP/1.1\r\n{lines}\r\n".encode()

    put = {"Content-Length": size, "x-amz-checksum-crc64nvme": checksum}
    for name, method, more in [("put", "PUT", put), ("get", "GET", {})]:
        with open(os.path.join(folder, name), "wb") as file:
            for n in range(int(keys)):
                one = head(method, f"o{n}", more)
                file.write(str(len(one)).encode() + b"\n" + one)


if __name__ == "__main__":
    main(*sys.argv[1:])
