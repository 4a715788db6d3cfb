"""template.yaml with other parameters than its defaults, as far as emulators play what they change.

What an emulator leaves out is asserted too, so that it is noticed once it does it; all of that
stands in infra/local-aws.md.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from headrace.local.deploy import local_client
from headrace.local.moto_server import serve_moto
from headrace.local.template import transformed
from tests.conftest import served
from tests.deployed import Deployed, awaited, deploy, transaction
from tests.localstack import running_localstack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make: TypeAlias = Callable[..., Deployed]

pytestmark = [pytest.mark.slow, pytest.mark.localstack, pytest.mark.parameters]
TABLES = ("StateTable", "FeatureTable", "ScoreTable")
POOL = "arn:aws:cognito-idp:us-east-1:000000000000:userpool/us-east-1_abc"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with served("LocalStack", running_localstack) as found:
        yield found


@pytest.fixture
def make(endpoint: str, root: Path, layers: dict[str, Path]) -> Make:
    """Deploys the template with parameters."""

    def deployed(**parameters: str) -> Deployed:
        stack = Deployed(endpoint, f"headrace-{uuid.uuid4().hex[:6]}")
        deploy(stack, root / "template.yaml", layers, {"StoreBudgetMs": "2000", **parameters})
        return stack

    return deployed


def is_scored(stack: Deployed, name: str) -> bool:
    """Whether a transaction that is put on the stream is scored."""
    stack.put(json.dumps(transaction(name)).encode())
    return bool(awaited(lambda: stack.score(f"event#{name}"), 60))


def test_tables_are_encrypted_with_the_key_that_is_given(endpoint: str, make: Make) -> None:
    key = new_key(endpoint)
    stack = make(KeyArn=key)
    dynamodb, kinesis = stack.client("dynamodb"), stack.client("kinesis")
    for table in TABLES:
        described = dynamodb.describe_table(TableName=stack.resources[table])["Table"]
        assert described["SSEDescription"]["KMSMasterKeyArn"] == key
    assert is_scored(stack, "with-a-key")
    stream = kinesis.describe_stream_summary(StreamName=stack.outputs["StreamName"])
    assert stream["StreamDescriptionSummary"]["EncryptionType"] == "NONE"  # unlike AWS


def test_api_key_lets_in_and_without_it_nobody_is(make: Make) -> None:
    stack = make(ApiAuth="key", ApiRequestsPerDay="2")
    gateway = stack.client("apigateway")
    told = gateway.get_api_key(apiKey=stack.outputs["ScoringKeyId"], includeValue=True)
    assert stack.ask_unsigned("/health") == 403
    assert stack.ask_unsigned("/health", x_api_key="another") == 403
    assert stack.ask_unsigned("/health", x_api_key=told["value"]) == 200
    (plan,) = [
        each
        for each in gateway.get_usage_plans()["items"]
        if any(stage["apiId"] == stack.resources["ScoringApi"] for stage in each["apiStages"])
    ]
    assert (plan["quota"]["limit"], plan["quota"]["period"]) == (2, "DAY")
    more = [stack.ask_unsigned("/health", x_api_key=told["value"]) for _ in range(3)]
    assert set(more) == {200}  # unlike AWS, which counts


def test_tokens_of_the_pool_are_asked_for(make: Make) -> None:
    stack = make(ApiAuth="jwt", UserPoolArn=POOL)
    found = stack.client("apigateway").get_authorizers(restApiId=stack.resources["ScoringApi"])
    (authorizer,) = found["items"]
    assert (authorizer["type"], authorizer["providerARNs"]) == ("COGNITO_USER_POOLS", [POOL])
    assert authorizer["identitySource"] == "method.request.header.Authorization"
    assert stack.ask_unsigned("/health") == 200  # unlike AWS, which looks at the token


def test_stack_with_canary_deployment_comes_up_and_scores(make: Make) -> None:
    stack = make(CanaryDeployment="true")
    assert is_scored(stack, "by-the-alias")
    groups = {name for name in stack.resources if name.endswith("DeploymentGroup")}
    assert groups == {"ScoreStreamFunctionDeploymentGroup", "ScoreRequestFunctionDeploymentGroup"}
    assert {stack.resources[name] for name in groups} == {"unknown"}  # there is no CodeDeploy


def test_bucket_is_encrypted_with_the_key_that_is_given(root: Path) -> None:
    """On moto, whose CloudFormation takes what LocalStack's leaves out of a bucket."""
    with serve_moto() as endpoint:
        key = new_key(endpoint)
        body = transformed(root / "template.yaml", {"KeyArn": key}, {})
        kept = {"QuarantineBucket": body["Resources"]["QuarantineBucket"]}
        told: dict[str, Any] = {**body, "Resources": kept, "Outputs": {}}
        local_client("cloudformation", endpoint).create_stack(
            StackName="keyed",
            TemplateBody=json.dumps(told),
            Parameters=[{"ParameterKey": "KeyArn", "ParameterValue": key}],
        )
        s3 = local_client("s3", endpoint)
        (bucket,) = s3.list_buckets()["Buckets"]
        found = s3.get_bucket_encryption(Bucket=bucket["Name"])
    (rule,) = found["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": key,
    }


def new_key(endpoint: str) -> str:
    """ARN of a new KMS key."""
    made: dict[str, Any] = local_client("kms", endpoint).create_key()
    return str(made["KeyMetadata"]["Arn"])
