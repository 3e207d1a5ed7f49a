"""Drives a Keystead S3 gateway with boto3: every operation that it serves, and what it must refuse.
Fails on the first answer that AWS would not give."""

import base64
import hashlib
import io
import json
import os
import sys
import urllib.error
import urllib.request
import zlib
from datetime import datetime, timedelta, timezone
from tempfile import TemporaryDirectory

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ENDPOINT = os.environ["ENDPOINT"]
REGION = "eu-central-1"
KEY_ARN = os.environ["KEY_ARN"]
MIB = 1 << 20
DONE = set()


def client(who, secret=None, region=REGION, **config):
    config.setdefault("retries", {"max_attempts": 1})
    config.setdefault("s3", {"addressing_style": "path"})
    signed = config.get("signature_version") != UNSIGNED
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url=ENDPOINT,
        config=Config(**config),
        aws_access_key_id=os.environ[f"{who}_ID"] if signed else None,
        aws_secret_access_key=(secret or os.environ[f"{who}_SECRET"]) if signed else None,
    )


def refused(what, status, code, call):
    try:
        answer = call()
    except ClientError as error:
        got = (error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"])
        assert got == (status, code), f"{what}: {got} instead of {(status, code)}: {error}"
        meta = error.response["ResponseMetadata"]
        assert meta.get("RequestId"), f"{what}: no request id: {meta}"
        return error.response
    raise AssertionError(f"{what} was not refused: {answer}")


def same(a, b, what=""):
    assert a == b, f"{what}: {a!r} is not {b!r}"


def count(name):
    DONE.add(name)


S3 = client("WRITER")


def api(name, /, **args):
    count(name)
    return getattr(S3, name)(**args)


def body(answer):
    return answer["Body"].read()


def buckets():
    api("create_bucket", Bucket="first", CreateBucketConfiguration={"LocationConstraint": REGION})
    api("create_bucket", Bucket="second")
    refused("again", 409, "BucketAlreadyOwnedByYou", lambda: S3.create_bucket(Bucket="first"))
    refused(
        "another region", 400, "IllegalLocationConstraintException",
        lambda: S3.create_bucket(
            Bucket="third", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        ),
    )
    same([b["Name"] for b in api("list_buckets")["Buckets"]], ["first", "second"])
    head = api("head_bucket", Bucket="first")
    same(head["BucketRegion"], REGION)
    refused("absent", 404, "404", lambda: S3.head_bucket(Bucket="absent"))
    same(api("get_bucket_location", Bucket="first")["LocationConstraint"], REGION)
    rule = api("get_bucket_encryption", Bucket="first")
    [rule] = rule["ServerSideEncryptionConfiguration"]["Rules"]
    same(rule["BucketKeyEnabled"], True)
    same(
        rule["ApplyServerSideEncryptionByDefault"],
        {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY_ARN},
    )

    def default(algorithm, key=None):
        apply = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
        rules = [{"ApplyServerSideEncryptionByDefault": apply, "BucketKeyEnabled": True}]
        return api(
            "put_bucket_encryption", Bucket="first",
            ServerSideEncryptionConfiguration={"Rules": rules},
        )

    default("aws:kms")
    default("aws:kms", KEY_ARN)
    refused("AES256", 400, "InvalidRequest", lambda: default("AES256"))
    refused("another key", 400, "InvalidRequest", lambda: default("aws:kms", KEY_ARN[:-1] + "6"))
    assert "Status" not in api("get_bucket_versioning", Bucket="first")
    [grant] = api("get_bucket_acl", Bucket="first")["Grants"]
    same(grant["Permission"], "FULL_CONTROL")
    for name, code in [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
    ]:
        refused(name, 404, code, lambda: api(name, Bucket="first"))
    for name in [
        "get_bucket_logging", "get_bucket_notification_configuration",
        "get_bucket_request_payment", "get_bucket_ownership_controls",
        "get_bucket_policy_status", "get_bucket_accelerate_configuration",
    ]:
        api(name, Bucket="first")
    refused(
        "versioning", 501, "NotImplemented",
        lambda: S3.put_bucket_versioning(
            Bucket="first", VersioningConfiguration={"Status": "Enabled"}
        ),
    )
    refused("a bucket name", 400, "InvalidBucketName", lambda: S3.create_bucket(Bucket="aa..bb"))


def encrypted(answer, what):
    same(answer["ServerSideEncryption"], "aws:kms", what)
    same(answer["SSEKMSKeyId"], KEY_ARN, what)
    same(answer["BucketKeyEnabled"], True, what)


def objects():
    data = os.urandom(300_000)
    put = api(
        "put_object", Bucket="first", Key="a/ö b+c", Body=data, ContentType="text/x-test",
        CacheControl="no-store", ContentDisposition="attachment", ContentLanguage="de",
        ContentEncoding="x-own", Expires=datetime(2030, 1, 2, tzinfo=timezone.utc),
        Metadata={"Owner": "me", "note": "two words"}, Tagging="a=1&b=two%20words",
    )
    encrypted(put, "put")
    same(put["ChecksumCRC32"], base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode())
    etag = put["ETag"]
    assert etag != f'"{hashlib.md5(data).hexdigest()}"', "the ETag is a digest of the plaintext"
    got = api("get_object", Bucket="first", Key="a/ö b+c")
    same(body(got), data)
    head = api("head_object", Bucket="first", Key="a/ö b+c", ChecksumMode="ENABLED")
    for answer in got, head:
        encrypted(answer, "get")
        same(answer["ETag"], etag)
        same(answer["ContentLength"], len(data))
        same(answer["ContentType"], "text/x-test")
        same(answer["CacheControl"], "no-store")
        same(answer["ContentDisposition"], "attachment")
        same(answer["ContentLanguage"], "de")
        same(answer["ContentEncoding"], "x-own")
        same(answer["Metadata"], {"owner": "me", "note": "two words"})
        same(answer["Expires"], datetime(2030, 1, 2, tzinfo=timezone.utc))
        assert datetime.now(timezone.utc) - answer["LastModified"] < timedelta(minutes=5)
        same(answer["ChecksumCRC32"], put["ChecksumCRC32"])
        same(answer["ChecksumType"], "FULL_OBJECT")
    same(got["TagCount"], 2)

    for spec, want in [
        ("bytes=0-0", data[:1]),
        ("bytes=65535-65536", data[65535:65537]),
        ("bytes=131072-", data[131072:]),
        ("bytes=-17", data[-17:]),
        ("bytes=-99999999", data),
        ("bytes=299999-999999999", data[-1:]),
    ]:
        got = S3.get_object(Bucket="first", Key="a/ö b+c", Range=spec)
        same(body(got), want, spec)
        same(got["ResponseMetadata"]["HTTPStatusCode"], 206, spec)
        end = len(data) if spec.startswith("bytes=-") else int(spec[6:].split("-")[0]) + len(want)
        same(got["ContentRange"], f"bytes {end - len(want)}-{end - 1}/{len(data)}", spec)
    for spec in "bytes=1-0", "lines=1-2", "bytes=0-1,5-6":
        got = S3.get_object(Bucket="first", Key="a/ö b+c", Range=spec)
        same((body(got) == data, got["ResponseMetadata"]["HTTPStatusCode"]), (True, 200), spec)
    refused(
        "a range behind the end", 416, "InvalidRange",
        lambda: S3.get_object(Bucket="first", Key="a/ö b+c", Range="bytes=300000-"),
    )
    attributes = api(
        "get_object_attributes", Bucket="first", Key="a/ö b+c",
        ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass", "ObjectParts"],
    )
    same(attributes["ObjectSize"], len(data))
    same(attributes["Checksum"]["ChecksumCRC32"], put["ChecksumCRC32"])
    same(attributes["ETag"].strip('"'), etag.strip('"'))
    [grant] = api("get_object_acl", Bucket="first", Key="a/ö b+c")["Grants"]
    same(grant["Permission"], "FULL_CONTROL")
    S3.put_object(Bucket="first", Key="empty", Body=b"", ACL="private")
    same(body(S3.get_object(Bucket="first", Key="empty")), b"")
    refused("absent", 404, "NoSuchKey", lambda: S3.get_object(Bucket="first", Key="absent"))
    refused("absent", 404, "404", lambda: S3.head_object(Bucket="first", Key="absent"))
    refused("no bucket", 404, "NoSuchBucket", lambda: S3.get_object(Bucket="absent", Key="k"))
    refused(
        "a long key", 400, "KeyTooLongError",
        lambda: S3.put_object(Bucket="first", Key="k" * 1025, Body=b""),
    )
    for key in "//a//b/", "./..", "../up", "a\x7fb", "%2e%2e", "ключ", "a" * 1024, "k?x=1&y#z":
        S3.put_object(Bucket="first", Key=key, Body=key.encode())
        same(body(S3.get_object(Bucket="first", Key=key)), key.encode(), key)
        api("delete_object", Bucket="first", Key=key)


def tags():
    get = lambda: {t["Key"]: t["Value"] for t in api(
        "get_object_tagging", Bucket="first", Key="a/ö b+c")["TagSet"]}
    same(get(), {"a": "1", "b": "two words"})
    api(
        "put_object_tagging", Bucket="first", Key="a/ö b+c",
        Tagging={"TagSet": [{"Key": "x", "Value": "y"}]},
    )
    same(get(), {"x": "y"})
    api("delete_object_tagging", Bucket="first", Key="a/ö b+c")
    same(get(), {})
    refused(
        "too many tags", 400, "InvalidTag",
        lambda: S3.put_object_tagging(
            Bucket="first", Key="a/ö b+c",
            Tagging={"TagSet": [{"Key": str(n), "Value": ""} for n in range(11)]},
        ),
    )


def encryption():
    args = {"Bucket": "first", "Key": "sse", "Body": b"x"}
    for more in [
        {"ServerSideEncryption": "aws:kms"},
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY_ARN, "BucketKeyEnabled": True},
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY_ARN.rsplit("/")[-1]},
        {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSEncryptionContext": base64.b64encode(
                json.dumps({"aws:s3:arn": "arn:aws:s3:::first"}).encode()
            ).decode(),
        },
    ]:
        encrypted(S3.put_object(**args, **more), more)
    other = base64.b64encode(json.dumps({"a": "b"}).encode()).decode()
    for what, more in {
        "AES256": {"ServerSideEncryption": "AES256"},
        "DSSE": {"ServerSideEncryption": "aws:kms:dsse"},
        "another key": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY_ARN[:-1] + "6"},
        "another context": {
            "ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": other},
        "no bucket key": {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": False},
        "SSE-C": {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
        "Object Lock": {"ObjectLockLegalHoldStatus": "ON"},
    }.items():
        refused(what, 400, "InvalidRequest", lambda: S3.put_object(**args, **more))
    refused(
        "an ACL", 400, "AccessControlListNotSupported",
        lambda: S3.put_object(**args, ACL="public-read"),
    )


def checksums():
    data = os.urandom(100_000)
    known = {
        "CRC32": zlib.crc32(data).to_bytes(4, "big"),
        "SHA1": hashlib.sha1(data).digest(),
        "SHA256": hashlib.sha256(data).digest(),
    }
    for algorithm, digest in known.items():
        field = f"Checksum{algorithm}"
        text = base64.b64encode(digest).decode()
        for style in (
            {"ChecksumAlgorithm": algorithm},
            {field: text},
        ):
            put = S3.put_object(Bucket="first", Key="sum", Body=data, **style)
            same(put[field], text)
            got = S3.get_object(Bucket="first", Key="sum", ChecksumMode="ENABLED")
            same((body(got), got[field]), (data, text))
        wrong = base64.b64encode(bytes([digest[0] ^ 1]) + digest[1:]).decode()
        refused(
            f"a wrong {algorithm}", 400, "BadDigest",
            lambda: S3.put_object(Bucket="first", Key="sum", Body=data, **{field: wrong}),
        )
    # What this client cannot make itself, it can still send.
    crc = {"ChecksumCRC32C": "4waSgw==", "ChecksumCRC64NVME": "rosUhgp5mIg="}
    for field, text in crc.items():
        put = S3.put_object(Bucket="first", Key="sum", Body=b"123456789", **{field: text})
        same(put[field], text)
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    S3.put_object(Bucket="first", Key="sum", Body=data, ContentMD5=md5)
    refused(
        "a wrong MD5", 400, "BadDigest",
        lambda: S3.put_object(Bucket="first", Key="sum", Body=data + b"x", ContentMD5=md5),
    )
    refused(
        "no MD5", 400, "InvalidDigest",
        lambda: S3.put_object(Bucket="first", Key="sum", Body=data, ContentMD5="AAAA"),
    )
    unknown = S3.meta.events

    def add(headers):
        def before(request, **_):
            for name, value in headers.items():
                request.headers[name] = value
        return before

    for kind in "sha512", "md5", "xxhash3", "xxhash64", "xxhash128":
        hook = add({f"x-amz-checksum-{kind}": "AAAA"})
        unknown.register("before-sign.s3.PutObject", hook)
        refused(
            kind, 400, "InvalidRequest",
            lambda: S3.put_object(Bucket="first", Key="sum", Body=data),
        )
        unknown.unregister("before-sign.s3.PutObject", hook)


def conditions():
    put = lambda **more: S3.put_object(Bucket="first", Key="if", Body=b"data", **more)
    first = put(IfNoneMatch="*")["ETag"]
    refused("there already", 412, "PreconditionFailed", lambda: put(IfNoneMatch="*"))
    second = put(IfMatch=first)["ETag"]
    assert first != second
    refused("an old ETag", 412, "PreconditionFailed", lambda: put(IfMatch=first))
    refused(
        "If-Match on nothing", 404, "NoSuchKey",
        lambda: S3.put_object(Bucket="first", Key="nothing", Body=b"", IfMatch=first),
    )
    get = lambda **more: S3.get_object(Bucket="first", Key="if", **more)
    head = lambda **more: S3.head_object(Bucket="first", Key="if", **more)
    past, future = (datetime.now(timezone.utc) + timedelta(hours=h) for h in (-1, 1))
    for ask, failed in (get, "PreconditionFailed"), (head, "412"):
        ask(IfMatch=second)
        ask(IfNoneMatch=first)
        ask(IfModifiedSince=past)
        ask(IfUnmodifiedSince=future)
        refused("If-Match", 412, failed, lambda: ask(IfMatch=first))
        refused("If-None-Match", 304, "304", lambda: ask(IfNoneMatch=second))
        refused("since", 304, "304", lambda: ask(IfModifiedSince=future))
        refused("since", 412, failed, lambda: ask(IfUnmodifiedSince=past))
    refused(
        "a deletion", 412, "PreconditionFailed",
        lambda: S3.delete_object(Bucket="first", Key="if", IfMatch=first),
    )
    S3.delete_object(Bucket="first", Key="if", IfMatch=second)


def copies():
    data = os.urandom(200_000)
    tag = S3.put_object(
        Bucket="first", Key="from ü", Body=data, Metadata={"a": "b"}, Tagging="t=1",
        ContentType="text/plain",
    )["ETag"]
    source = {"Bucket": "first", "Key": "from ü"}
    to = {"Bucket": "second", "Key": "to"}
    copied = api("copy_object", CopySource=source, **to)
    encrypted(copied, "copy")
    got = S3.get_object(**to)
    same((body(got), got["Metadata"], got["ContentType"]), (data, {"a": "b"}, "text/plain"))
    same(got["TagCount"], 1)
    S3.copy_object(
        CopySource=source, MetadataDirective="REPLACE", Metadata={"c": "d"},
        TaggingDirective="REPLACE", Tagging="", ServerSideEncryption="aws:kms", **to,
    )
    got = S3.get_object(**to)
    same((got["Metadata"], got.get("TagCount")), ({"c": "d"}, None))
    refused("onto itself", 400, "InvalidRequest", lambda: S3.copy_object(CopySource=source, **source))
    S3.copy_object(CopySource=source, MetadataDirective="REPLACE", Metadata={"e": "f"}, **source)
    tag = S3.head_object(**source)["ETag"]
    S3.copy_object(CopySource=source, CopySourceIfMatch=tag, **to)
    for more in {"CopySourceIfMatch": '"x"'}, {"CopySourceIfNoneMatch": tag}:
        refused(
            more, 412, "PreconditionFailed", lambda: S3.copy_object(CopySource=source, **more, **to)
        )
    refused(
        "no source", 404, "NoSuchKey",
        lambda: S3.copy_object(CopySource={"Bucket": "first", "Key": "absent"}, **to),
    )
    hook = lambda request, **_: request.headers.add_header("If-None-Match", "*")
    S3.meta.events.register("before-sign.s3.CopyObject", hook)
    refused(
        "onto what is there", 412, "PreconditionFailed",
        lambda: S3.copy_object(CopySource=source, **to),
    )
    S3.meta.events.unregister("before-sign.s3.CopyObject", hook)


def listings():
    S3.create_bucket(Bucket="lists")
    keys = sorted([f"d{n}/k{m}" for n in range(3) for m in range(4)] + ["a b", "ä", "x&<y", "z+"],
                  key=str.encode)
    for key in keys:
        S3.put_object(Bucket="lists", Key=key, Body=key.encode())
    names = lambda answer: [c["Key"] for c in answer.get("Contents", [])]
    rolled = lambda answer: [c["Prefix"] for c in answer.get("CommonPrefixes", [])]
    for name in "list_objects", "list_objects_v2":
        count(name)
        for size in 1, 3, 1000:
            pages = list(S3.get_paginator(name).paginate(
                Bucket="lists", PaginationConfig={"PageSize": size}))
            same([key for page in pages for key in names(page)], keys, (name, size))
            pages = list(S3.get_paginator(name).paginate(
                Bucket="lists", Delimiter="/", PaginationConfig={"PageSize": size}))
            same([key for page in pages for key in names(page)],
                 [key for key in keys if "/" not in key], (name, size))
            same([p for page in pages for p in rolled(page)], ["d0/", "d1/", "d2/"], (name, size))
        call = getattr(S3, name)
        same(names(call(Bucket="lists", Prefix="d1/")), [f"d1/k{m}" for m in range(4)])
        same(rolled(call(Bucket="lists", Prefix="d", Delimiter="/")), ["d0/", "d1/", "d2/"])
        same(names(call(Bucket="lists", Prefix="none")), [])
        same(call(Bucket="lists", MaxKeys=0)["IsTruncated"], False)
        refused("no bucket", 404, "NoSuchBucket", lambda: call(Bucket="absent"))
    page = S3.list_objects_v2(Bucket="lists", StartAfter="d1/k3", FetchOwner=True)
    same(names(page), [key for key in keys if key.encode() > b"d1/k3"])
    assert all(c["Owner"]["ID"] for c in page["Contents"])
    same(page["KeyCount"], len(names(page)))
    entry = page["Contents"][0]
    same((entry["Size"], entry["StorageClass"]), (5, "STANDARD"))
    same(names(S3.list_objects(Bucket="lists", Marker="d1/k3")), names(page))
    refused(
        "a foreign token", 400, "InvalidArgument",
        lambda: S3.list_objects_v2(Bucket="lists", ContinuationToken="!!"),
    )
    versions = api("list_object_versions", Bucket="lists")["Versions"]
    same([v["Key"] for v in versions], keys)
    same({v["VersionId"] for v in versions}, {"null"})
    gone = api(
        "delete_objects", Bucket="lists",
        Delete={"Objects": [{"Key": key} for key in keys[:3]] + [{"Key": "absent"}]},
    )
    same([d["Key"] for d in gone["Deleted"]], keys[:3] + ["absent"])
    gone = S3.delete_objects(
        Bucket="lists",
        Delete={"Objects": [{"Key": keys[3], "VersionId": "null"}], "Quiet": True},
    )
    assert "Deleted" not in gone and "Errors" not in gone, gone
    refused("not empty", 409, "BucketNotEmpty", lambda: S3.delete_bucket(Bucket="lists"))
    hook = lambda request, **_: request.headers.replace_header("x-amz-checksum-crc32", "AAAAAA==")
    S3.meta.events.register("before-sign.s3.DeleteObjects", hook)
    refused(
        "a wrong checksum", 400, "BadDigest",
        lambda: S3.delete_objects(Bucket="lists", Delete={"Objects": [{"Key": keys[4]}]}),
    )
    S3.meta.events.unregister("before-sign.s3.DeleteObjects", hook)
    boto3.resource(
        "s3", region_name=REGION, endpoint_url=ENDPOINT,
        aws_access_key_id=os.environ["WRITER_ID"],
        aws_secret_access_key=os.environ["WRITER_SECRET"],
    ).Bucket("lists").objects.delete()
    api("delete_bucket", Bucket="lists")
    refused("deleted", 404, "NoSuchBucket", lambda: S3.list_objects_v2(Bucket="lists"))


def multipart():
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB + 1), os.urandom(77)]
    at = {"Bucket": "first", "Key": "multi/part"}
    for algorithm in None, "SHA256", "CRC32":
        more = {"ChecksumAlgorithm": algorithm} if algorithm else {}
        made = api("create_multipart_upload", Metadata={"m": "1"}, Tagging="t=2", **more, **at)
        encrypted(made, "create")
        upload = {"UploadId": made["UploadId"], **at}
        named = []
        for n, data in enumerate(parts, 1):
            if n == 2:
                S3.put_object(Bucket="first", Key="source", Body=b"--" + data + b"--")
                answer = api(
                    "upload_part_copy", PartNumber=n, **upload,
                    CopySource={"Bucket": "first", "Key": "source"},
                    CopySourceRange=f"bytes=2-{len(data) + 1}",
                )["CopyPartResult"]
            else:
                answer = api("upload_part", PartNumber=n, Body=data, **more, **upload)
                encrypted(answer, "part")
            part = {"PartNumber": n, "ETag": answer["ETag"]}
            field = f"Checksum{algorithm}"
            if algorithm:
                part[field] = answer[field]
            named.append(part)
        listed = api("list_parts", **upload)
        same([(p["PartNumber"], p["Size"]) for p in listed["Parts"]],
             [(n, len(p)) for n, p in enumerate(parts, 1)])
        first = S3.list_parts(MaxParts=1, **upload)
        same((first["IsTruncated"], first["NextPartNumberMarker"]), (True, 1))
        open_uploads = api("list_multipart_uploads", Bucket="first")["Uploads"]
        same([(u["Key"], u["UploadId"]) for u in open_uploads],
             [(at["Key"], made["UploadId"])])
        refused(
            "a wrong ETag", 400, "InvalidPart",
            lambda: S3.complete_multipart_upload(
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"x"'}]}, **upload),
        )
        refused(
            "the wrong order", 400, "InvalidPartOrder",
            lambda: S3.complete_multipart_upload(
                MultipartUpload={"Parts": named[::-1]}, **upload),
        )
        S3.put_object(Body=b"before", **at)
        refused(
            "a condition", 412, "PreconditionFailed",
            lambda: S3.complete_multipart_upload(
                MultipartUpload={"Parts": named}, IfNoneMatch="*", **upload),
        )
        done = api("complete_multipart_upload", MultipartUpload={"Parts": named}, **upload)
        encrypted(done, "complete")
        got = S3.get_object(**at)
        same(body(got), b"".join(parts), algorithm)
        same((got["ETag"], got["Metadata"], got["TagCount"]), (done["ETag"], {"m": "1"}, 1))
        across = S3.get_object(Range=f"bytes={5 * MIB - 9}-{5 * MIB + 9}", **at)
        same(body(across), b"".join(parts)[5 * MIB - 9 : 5 * MIB + 10])
        second = S3.get_object(PartNumber=2, **at)
        same((body(second), second["PartsCount"]), (parts[1], 3))
        same(second["ResponseMetadata"]["HTTPStatusCode"], 206)
        head = S3.head_object(PartNumber=3, **at)
        same((head["ContentLength"], head["PartsCount"]), (77, 3))
        if algorithm:
            head = S3.head_object(ChecksumMode="ENABLED", **at)
            same(head["ChecksumType"], "COMPOSITE")
            assert head[field].endswith("-3"), head
            attributes = S3.get_object_attributes(
                ObjectAttributes=["ObjectParts", "Checksum"], **at)
            same([p["Size"] for p in attributes["ObjectParts"]["Parts"]], [len(p) for p in parts])
        refused(
            "completed", 404, "NoSuchUpload",
            lambda: S3.upload_part(PartNumber=1, Body=b"", **upload),
        )
    made = S3.create_multipart_upload(**at)
    upload = {"UploadId": made["UploadId"], **at}
    small = [S3.upload_part(PartNumber=n, Body=b"small", **upload)["ETag"] for n in (1, 2)]
    refused(
        "small parts", 400, "EntityTooSmall",
        lambda: S3.complete_multipart_upload(
            MultipartUpload={"Parts": [
                {"PartNumber": n, "ETag": e} for n, e in enumerate(small, 1)]}, **upload),
    )
    refused(
        "part 0", 400, "InvalidArgument",
        lambda: S3.upload_part(PartNumber=10001, Body=b"", **upload),
    )
    api("abort_multipart_upload", **upload)
    refused("aborted", 404, "NoSuchUpload", lambda: S3.list_parts(**upload))
    assert "Uploads" not in S3.list_multipart_uploads(Bucket="first")
    # Full-object checksum of an upload, told at its end.
    data = os.urandom(6 * MIB)
    made = S3.create_multipart_upload(
        ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT", **at)
    upload = {"UploadId": made["UploadId"], **at}
    named = [
        {"PartNumber": n, "ETag": S3.upload_part(
            PartNumber=n, Body=piece, ChecksumAlgorithm="CRC32", **upload)["ETag"]}
        for n, piece in enumerate([data[: 5 * MIB], data[5 * MIB :]], 1)
    ]
    text = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    refused(
        "a wrong whole", 400, "BadDigest",
        lambda: S3.complete_multipart_upload(
            MultipartUpload={"Parts": named}, ChecksumType="FULL_OBJECT",
            ChecksumCRC32="AAAAAA==", **upload),
    )
    done = S3.complete_multipart_upload(
        MultipartUpload={"Parts": named}, ChecksumType="FULL_OBJECT", ChecksumCRC32=text, **upload)
    same((done["ChecksumCRC32"], done["ChecksumType"]), (text, "FULL_OBJECT"))


def transfer():
    data = os.urandom(19 * MIB + 5)
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        with open(path, "wb") as file:
            file.write(data)
        for more in {}, {"ChecksumAlgorithm": "SHA1"}:
            S3.upload_file(path, "first", "transfer", ExtraArgs={"ContentType": "x/y"} | more)
            S3.download_file("first", "transfer", path + ".back",
                             Config=TransferConfig(multipart_threshold=8 * MIB))
            with open(path + ".back", "rb") as file:
                same(file.read() == data, True, "transfer")
    S3.upload_fileobj(io.BytesIO(data), "first", "object")
    back = io.BytesIO()
    S3.download_fileobj("first", "object", back)
    same(back.getvalue() == data, True, "fileobj")
    S3.copy({"Bucket": "first", "Key": "object"}, "second", "copied",
            Config=TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB))
    same(S3.head_object(Bucket="second", Key="copied")["ContentLength"], len(data))
    same(body(S3.get_object(Bucket="second", Key="copied")) == data, True, "copy")
    count("transfer manager")


def fetch(url, data=None, method=None, headers=None):
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def fetch_signed(region):
    """A signed GET, by hand."""
    request = AWSRequest("GET", f"{ENDPOINT}/first/sum")
    who = Credentials(os.environ["WRITER_ID"], os.environ["WRITER_SECRET"])
    S3SigV4Auth(who, "s3", region).add_auth(request)
    return fetch(request.url, headers=dict(request.headers))


def presigned():
    url = S3.generate_presigned_url("put_object", {"Bucket": "first", "Key": "signed url"})
    same(fetch(url, b"by url", "PUT")[0], 200)
    get = lambda **more: S3.generate_presigned_url(
        "get_object", {"Bucket": "first", "Key": "signed url"} | more)
    url = get(ResponseContentType="text/own", ResponseContentDisposition='attachment; filename="a"')
    status, data, headers = fetch(url)
    same((status, data, headers["Content-Type"]), (200, b"by url", "text/own"))
    same(headers["Content-Disposition"], 'attachment; filename="a"')
    same(fetch(get(), headers={"Range": "bytes=3-"})[:2], (206, b"url"))
    head = S3.generate_presigned_url("head_object", {"Bucket": "first", "Key": "signed url"})
    same(fetch(head, method="HEAD")[0], 200)
    for what, url, code in [
        ("another key", get().replace("signed%20url", "sum"), "SignatureDoesNotMatch"),
        ("another parameter", get() + "&response-content-type=x", "SignatureDoesNotMatch"),
        ("a longer life", get().replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"),
         "SignatureDoesNotMatch"),
    ]:
        status, data, _ = fetch(url)
        same((status, f"<Code>{code}</Code>" in data.decode()), (403, True), what)
    same(fetch(get(), b"", "PUT")[0], 403, "another method")
    same(fetch(get(), headers={"x-amz-acl": "private"})[0], 403, "a header that is not signed")
    long = S3.generate_presigned_url(
        "get_object", {"Bucket": "first", "Key": "signed url"}, ExpiresIn=604_801)
    status, data, _ = fetch(long)
    same((status, b"AuthorizationQueryParametersError" in data), (400, True), "too long a life")
    old = S3.generate_presigned_url(
        "get_object", {"Bucket": "first", "Key": "signed url"}, ExpiresIn=1)
    import time
    time.sleep(2.1)
    status, data, _ = fetch(old)
    same((status, b"Request has expired" in data), (403, True), "expired")
    count("presigned")


def strangers():
    get = lambda who: who.get_object(Bucket="first", Key="sum")
    refused("no signature", 403, "AccessDenied",
            lambda: get(client("WRITER", signature_version=UNSIGNED)))
    refused("a wrong secret", 403, "SignatureDoesNotMatch",
            lambda: get(client("WRITER", secret="wrong")))
    # This client reads the right region in the refusal and signs anew.
    redirected = get(client("WRITER", region="mars-1"))
    same(redirected["ResponseMetadata"]["RetryAttempts"], 1, "a foreign region")
    status, data, _ = fetch_signed("mars-1")
    same((status, f"<Region>{REGION}</Region>" in data.decode()), (400, True), "a foreign region")
    assert b"AuthorizationHeaderMalformed" in data, data
    same(fetch_signed(REGION)[0], 200)
    refused("version 2", 400, "InvalidRequest",
            lambda: get(client("WRITER", signature_version="s3")))
    os.environ["NOBODY_ID"], os.environ["NOBODY_SECRET"] = "KSNOBODY", "x"
    refused("an unknown key", 403, "InvalidAccessKeyId", lambda: get(client("NOBODY")))
    unsigned = client("WRITER")

    def add(request, **_):
        request.headers["x-amz-acl"] = "private"

    unsigned.meta.events.register("before-send.s3.GetObject", add)
    refused("a header that is not signed", 403, "AccessDenied", lambda: get(unsigned))
    other = client("OTHER")
    refused("another cluster's bucket", 404, "NoSuchBucket", lambda: get(other))
    same(other.list_buckets()["Buckets"], [])
    other.create_bucket(Bucket="first")
    other.put_object(Bucket="first", Key="k", Body=b"theirs")
    same(body(other.get_object(Bucket="first", Key="k")), b"theirs")
    refused("the other's key", 404, "NoSuchKey", lambda: S3.get_object(Bucket="first", Key="k"))
    reader = client("READER")
    get(reader)
    reader.head_object(Bucket="first", Key="sum")
    reader.list_objects_v2(Bucket="first")
    reader.list_buckets()
    reader.get_object_tagging(Bucket="first", Key="sum")
    for what, call in {
        "put": lambda: reader.put_object(Bucket="first", Key="sum", Body=b"x" * 100_000),
        "delete": lambda: reader.delete_object(Bucket="first", Key="sum"),
        "delete many": lambda: reader.delete_objects(
            Bucket="first", Delete={"Objects": [{"Key": "sum"}]}),
        "copy": lambda: reader.copy_object(
            Bucket="first", Key="c", CopySource={"Bucket": "first", "Key": "sum"}),
        "upload": lambda: reader.create_multipart_upload(Bucket="first", Key="sum"),
        "create bucket": lambda: reader.create_bucket(Bucket="readers"),
        "delete bucket": lambda: reader.delete_bucket(Bucket="first"),
        "tags": lambda: reader.put_object_tagging(
            Bucket="first", Key="sum", Tagging={"TagSet": []}),
        "encryption": lambda: reader.put_bucket_encryption(
            Bucket="first", ServerSideEncryptionConfiguration={"Rules": [
                {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}),
    }.items():
        refused(f"a reader's {what}", 403, "AccessDenied", call)
    get(reader)


def virtual_hosted():
    """The bucket before the base domain; the name is resolved by hand."""
    import botocore.httpsession
    import socket
    original = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *a, **k: original(
        "127.0.0.1" if str(host).endswith("s3.keystead.test") else host, *a, **k)
    port = ENDPOINT.rsplit(":", 1)[1]
    named = boto3.client(
        "s3", region_name=REGION, endpoint_url=f"http://s3.keystead.test:{port}",
        config=Config(s3={"addressing_style": "virtual"}, retries={"max_attempts": 1}),
        aws_access_key_id=os.environ["WRITER_ID"],
        aws_secret_access_key=os.environ["WRITER_SECRET"],
    )
    named.put_object(Bucket="first", Key="virtual/k", Body=b"hosted")
    same(body(S3.get_object(Bucket="first", Key="virtual/k")), b"hosted")
    same(body(named.get_object(Bucket="first", Key="virtual/k")), b"hosted")
    same(named.list_objects_v2(Bucket="first", Prefix="virtual/")["KeyCount"], 1)
    url = named.generate_presigned_url("get_object", {"Bucket": "first", "Key": "virtual/k"})
    assert f"//first.s3.keystead.test:{port}/" in url, url
    same(fetch(url)[:2], (200, b"hosted"))
    count("virtual-hosted")


for step in [
    buckets, objects, tags, encryption, checksums, conditions, copies, listings, multipart,
    transfer, presigned, strangers, virtual_hosted,
]:
    step()
    print(f"{step.__name__} ok", file=sys.stderr, flush=True)
print(f"{len(DONE)} operations")
