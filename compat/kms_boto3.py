"""Drives a Keystead KMS with boto3: every operation once with the right secret and once with a
wrong one. Fails on the first answer that AWS would not give."""

import json
import os
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["ENDPOINT"]
REGION = "eu-central-1"
OTHER_REGION = "eu-west-1"
CALLED = set()


def client(service, who, secret=None, session=None, region=REGION):
    credentials = {
        "aws_access_key_id": os.environ[f"{who}_ID"],
        "aws_secret_access_key": secret or os.environ[f"{who}_SECRET"],
    }
    if session:
        credentials = {
            "aws_access_key_id": session["AccessKeyId"],
            "aws_secret_access_key": session["SecretAccessKey"],
            "aws_session_token": session["SessionToken"],
        }
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=ENDPOINT,
        config=Config(retries={"max_attempts": 1}),
        **credentials,
    )


def code_of(call):
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def check(service, who, operation, session=None, **arguments):
    """A wrong secret is refused and changes nothing; then the right one is not."""
    wrong = client(service, who, secret="wrong" * 8)
    code = code_of(lambda: getattr(wrong, operation)(**arguments))
    expected = ("InvalidSignatureException", "SignatureDoesNotMatch")
    assert code in expected, f"{operation} with a wrong secret: {code}"
    CALLED.add(operation)
    return getattr(client(service, who, session=session), operation)(**arguments)


def refused(code, call):
    got = code_of(call)
    assert got == code, f"expected {code}, got {got}"


def rotations_and_regions():
    """A multi-Region key: its rotations, its replica, and what each of them opens."""
    kms = client("kms", "OWNER")
    there = client("kms", "OWNER", region=OTHER_REGION)
    made = kms.create_key(MultiRegion=True)["KeyMetadata"]
    key, arn = made["KeyId"], made["Arn"]
    assert key.startswith("mrk-"), made
    sealed = [kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext={"n": "0"})]
    check("kms", "OWNER", "enable_key_rotation", KeyId=key, RotationPeriodInDays=90)
    status = check("kms", "OWNER", "get_key_rotation_status", KeyId=key)
    assert status["KeyRotationEnabled"] and status["RotationPeriodInDays"] == 90, status
    assert (status["NextRotationDate"] - made["CreationDate"]).days == 90, status
    assert check("kms", "OWNER", "rotate_key_on_demand", KeyId=key)["KeyId"] == key
    sealed.append(kms.generate_data_key(KeyId=key, NumberOfBytes=7, EncryptionContext={"n": "1"}))
    assert sealed[0]["KeyMaterialId"] != sealed[1]["KeyMaterialId"]

    replica = check("kms", "OWNER", "replicate_key", KeyId=arn, ReplicaRegion=OTHER_REGION,
                    Tags=[{"TagKey": "t", "TagValue": ""}])
    metadata = replica["ReplicaKeyMetadata"]
    assert metadata["Arn"] == arn.replace(REGION, OTHER_REGION), metadata
    assert metadata["KeyState"] == "Creating" and not metadata["Enabled"], metadata
    assert metadata["MultiRegionConfiguration"]["PrimaryKey"]["Region"] == REGION, metadata
    until(lambda: there.describe_key(KeyId=key)["KeyMetadata"]["Enabled"])
    refused("AlreadyExistsException", lambda: kms.replicate_key(
        KeyId=arn, ReplicaRegion=OTHER_REGION))
    refused("NotFoundException", lambda: there.describe_key(KeyId=arn))
    refused("UnsupportedOperationException", lambda: there.rotate_key_on_demand(KeyId=key))

    check("kms", "OWNER", "update_primary_region", KeyId=key, PrimaryRegion=OTHER_REGION)
    for each in (kms, there):
        until(lambda: each.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled")
    there.rotate_key_on_demand(KeyId=key)
    rotations = check("kms", "OWNER", "list_key_rotations", KeyId=key,
                      IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert [r.get("RotationType") for r in rotations] == [None] + ["ON_DEMAND"] * 2, rotations
    states = ["NON_CURRENT", "NON_CURRENT", "CURRENT"]
    assert [r["KeyMaterialState"] for r in rotations] == states, rotations
    assert there.list_key_rotations(KeyId=key, Limit=1)["Truncated"]
    for each in (kms, there):
        for number, data_key in enumerate(sealed):
            opened = each.decrypt(CiphertextBlob=data_key["CiphertextBlob"],
                                  EncryptionContext={"n": str(number)})
            assert opened["Plaintext"] == data_key["Plaintext"], number
            assert opened["KeyMaterialId"] == data_key["KeyMaterialId"], number
    there.disable_key_rotation(KeyId=key)
    assert not kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    # The primary key waits for its replica.
    gone = there.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert gone["KeyState"] == "PendingReplicaDeletion" and "DeletionDate" not in gone, gone
    gone = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert gone["KeyState"] == "PendingDeletion" and "DeletionDate" in gone, gone
    single = kms.create_key()["KeyMetadata"]["KeyId"]
    check("kms", "OWNER", "disable_key_rotation", KeyId=single)
    kms.schedule_key_deletion(KeyId=single)


def until(holds):
    for _ in range(500):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come about")


def main():
    owner_account = os.environ["OWNER_ACCOUNT"]
    operator_account = os.environ["OPERATOR_ACCOUNT"]
    who = check("sts", "OWNER", "get_caller_identity")
    assert who["Account"] == owner_account and who["Arn"].endswith(":user/administrator"), who

    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{operator_account}:user/administrator"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    own = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}],
    }
    role = check(
        "iam",
        "OPERATOR",
        "create_role",
        RoleName="tenant",
        AssumeRolePolicyDocument=json.dumps(trust),
    )["Role"]
    assert role["AssumeRolePolicyDocument"] == trust, role
    assert check("iam", "OPERATOR", "get_role", RoleName="tenant")["Role"]["Arn"] == role["Arn"]
    refused("EntityAlreadyExists", lambda: client("iam", "OPERATOR").create_role(
        RoleName="tenant", AssumeRolePolicyDocument=json.dumps(trust)))
    check("iam", "OPERATOR", "put_role_policy", RoleName="tenant", PolicyName="p",
          PolicyDocument=json.dumps(own))
    got = check("iam", "OPERATOR", "get_role_policy", RoleName="tenant", PolicyName="p")
    assert got["PolicyDocument"] == own, got
    session = check("sts", "OPERATOR", "assume_role", RoleArn=role["Arn"],
                    RoleSessionName="compat", DurationSeconds=900)["Credentials"]

    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "root", "Effect": "Allow", "Action": "kms:*", "Resource": "*",
             "Principal": {"AWS": f"arn:aws:iam::{owner_account}:root"}},
            {"Sid": "role", "Effect": "Allow", "Resource": "*",
             "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*",
                        "kms:DescribeKey", "kms:CreateGrant"],
             "Principal": {"AWS": role["Arn"]}},
        ],
    }
    made = check("kms", "OWNER", "create_key", Description="compat", Policy=json.dumps(policy),
                 Tags=[{"TagKey": "t", "TagValue": "v"}])["KeyMetadata"]
    arn = made["Arn"]
    assert made["KeyState"] == "Enabled" and made["KeySpec"] == "SYMMETRIC_DEFAULT", made
    check("kms", "OWNER", "create_alias", AliasName="alias/compat", TargetKeyId=arn)
    kms = client("kms", "OWNER")
    assert check("kms", "OWNER", "describe_key", KeyId="alias/compat")["KeyMetadata"] == made
    keys = check("kms", "OWNER", "list_keys")["Keys"]
    assert [k["KeyArn"] for k in keys] == [arn], keys
    aliases = check("kms", "OWNER", "list_aliases")["Aliases"]
    assert aliases[0]["AliasName"] == "alias/compat", aliases
    got = check("kms", "OWNER", "get_key_policy", KeyId=arn, PolicyName="default")["Policy"]
    assert json.loads(got) == policy, got

    names = check("kms", "OWNER", "list_key_policies", KeyId=arn)
    assert names["PolicyNames"] == ["default"] and not names["Truncated"], names
    check("kms", "OWNER", "update_key_description", KeyId=arn, Description="other words")
    assert kms.describe_key(KeyId=arn)["KeyMetadata"]["Description"] == "other words"
    assert len(check("kms", "OWNER", "generate_random", NumberOfBytes=64)["Plaintext"]) == 64

    check("kms", "OWNER", "tag_resource", KeyId=arn, Tags=[
        {"TagKey": "t", "TagValue": "w"}, {"TagKey": "empty", "TagValue": ""}])
    tags = check("kms", "OWNER", "list_resource_tags", KeyId=arn)["Tags"]
    assert tags == [{"TagKey": "empty", "TagValue": ""}, {"TagKey": "t", "TagValue": "w"}], tags
    check("kms", "OWNER", "untag_resource", KeyId=arn, TagKeys=["t", "absent"])
    tags = kms.list_resource_tags(KeyId=arn)["Tags"]
    assert tags == [{"TagKey": "empty", "TagValue": ""}], tags
    refused("TagException", lambda: kms.tag_resource(
        KeyId=arn, Tags=[{"TagKey": "aws:x", "TagValue": ""}]))

    grant = kms.create_grant(KeyId=arn, GranteePrincipal=role["Arn"],
                             RetiringPrincipal=role["Arn"], Operations=["Encrypt"])
    retirable = check("kms", "OPERATOR", "list_retirable_grants", RetiringPrincipal=role["Arn"])
    assert [g["GrantId"] for g in retirable["Grants"]] == [grant["GrantId"]], retirable
    kms.revoke_grant(KeyId=arn, GrantId=grant["GrantId"])
    rotations_and_regions()

    hmac = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
    assert hmac["MacAlgorithms"] == ["HMAC_SHA_256"] and hmac["KeyState"] == "Enabled", hmac
    refused("InvalidKeyUsageException", lambda: kms.encrypt(KeyId=hmac["Arn"], Plaintext=b"x"))
    refused("UnsupportedOperationException", lambda: kms.generate_mac(
        KeyId=hmac["Arn"], Message=b"x", MacAlgorithm="HMAC_SHA_256"))
    refused("ValidationException", lambda: kms.update_alias(
        AliasName="alias/compat", TargetKeyId=hmac["Arn"]))
    second = kms.create_key()["KeyMetadata"]
    check("kms", "OWNER", "update_alias", AliasName="alias/compat", TargetKeyId=second["KeyId"])
    assert kms.describe_key(KeyId="alias/compat")["KeyMetadata"]["Arn"] == second["Arn"]
    check("kms", "OWNER", "delete_alias", AliasName="alias/compat")
    refused("NotFoundException", lambda: kms.describe_key(KeyId="alias/compat"))

    context = {"keystead:cluster": "c", "ümlaut": "ß"}
    for who, given in (("OWNER", None), ("OPERATOR", session)):
        sealed = check("kms", who, "encrypt", session=given, KeyId=arn, Plaintext=b"hello",
                       EncryptionContext=context)["CiphertextBlob"]
        opened = check("kms", who, "decrypt", session=given, CiphertextBlob=sealed,
                       EncryptionContext=context)
        assert opened["Plaintext"] == b"hello" and opened["KeyId"] == arn, opened
        key = check("kms", who, "generate_data_key", session=given, KeyId=arn, KeySpec="AES_256",
                    EncryptionContext=context)
        assert len(key["Plaintext"]) == 32
        moved = check("kms", who, "re_encrypt", session=given, CiphertextBlob=key["CiphertextBlob"],
                      SourceEncryptionContext=context, DestinationKeyId=arn,
                      DestinationEncryptionContext={})["CiphertextBlob"]
        again = client("kms", who, session=given).decrypt(CiphertextBlob=moved, KeyId=arn)
        assert again["Plaintext"] == key["Plaintext"]
    blind = check("kms", "OWNER", "generate_data_key_without_plaintext", KeyId=arn,
                  NumberOfBytes=64)
    assert "Plaintext" not in blind
    refused("InvalidCiphertextException", lambda: kms.decrypt(CiphertextBlob=sealed))
    refused("DryRunOperationException", lambda: kms.decrypt(
        CiphertextBlob=sealed, EncryptionContext=context, DryRun=True))

    grant = check("kms", "OWNER", "create_grant", KeyId=arn, GranteePrincipal=role["Arn"],
                  RetiringPrincipal=role["Arn"], Operations=["Decrypt"], Name="g",
                  Constraints={"EncryptionContextSubset": {"keystead:cluster": "c"}})
    listed = check("kms", "OWNER", "list_grants", KeyId=arn)["Grants"]
    # The wrong secret made none; the same name makes no other.
    assert [g["GrantId"] for g in listed] == [grant["GrantId"]], listed
    check("kms", "OPERATOR", "retire_grant", session=session, GrantToken=grant["GrantToken"])
    refused("InvalidGrantIdException", lambda: kms.revoke_grant(
        KeyId=arn, GrantId=grant["GrantId"]))
    grant = kms.create_grant(KeyId=arn, GranteePrincipal=role["Arn"], Operations=["Encrypt"])
    check("kms", "OWNER", "revoke_grant", KeyId=arn, GrantId=grant["GrantId"])

    check("kms", "OWNER", "disable_key", KeyId=arn)
    refused("DisabledException", lambda: kms.encrypt(KeyId=arn, Plaintext=b"x"))
    check("kms", "OWNER", "enable_key", KeyId=arn)
    check("kms", "OWNER", "schedule_key_deletion", KeyId=arn, PendingWindowInDays=7)
    refused("KMSInvalidStateException", lambda: kms.encrypt(KeyId=arn, Plaintext=b"x"))
    state = kms.describe_key(KeyId=arn)["KeyMetadata"]
    assert state["KeyState"] == "PendingDeletion" and "DeletionDate" in state, state
    check("kms", "OWNER", "cancel_key_deletion", KeyId=arn)
    assert kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"
    kms.enable_key(KeyId=arn)
    policy["Statement"].pop()
    check("kms", "OWNER", "put_key_policy", KeyId=arn, Policy=json.dumps(policy))
    refused("AccessDeniedException", lambda: client("kms", "OPERATOR", session=session).encrypt(
        KeyId=arn, Plaintext=b"x"))

    events = check("cloudtrail", "OWNER", "lookup_events", LookupAttributes=[
        {"AttributeKey": "EventName", "AttributeValue": "DisableKey"}])["Events"]
    # One that succeeded; the wrong secret's attempt is on record as well.
    codes = sorted(json.loads(e["CloudTrailEvent"]).get("errorCode", "") for e in events)
    assert codes == ["", "InvalidSignatureException"], codes

    check("iam", "OPERATOR", "delete_role_policy", RoleName="tenant", PolicyName="p")
    check("iam", "OPERATOR", "delete_role", RoleName="tenant")
    refused("NoSuchEntity", lambda: client("iam", "OPERATOR").get_role(RoleName="tenant"))
    print(f"{len(CALLED)} operations")


if __name__ == "__main__":
    sys.exit(main())
