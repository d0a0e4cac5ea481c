"""cluster.yaml in layers: Ray's schema, Ray's own preparation, what EC2 takes, and a launch on an imitation of AWS."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import ray.autoscaler
import yaml
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator
from moto import mock_aws
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_USER_NODE_TYPE

from factory.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[2]
FILLED_IN = {
    "MinCount": 1,
    "MaxCount": 1,
    "KeyName": "ray-autoscaler_us-west-2",
    "SubnetId": "subnet-0",
    "SecurityGroupIds": ["sg-0"],
    "TagSpecifications": [
        {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "ray-flawforge-head"}]}
    ],
}
"""What Ray's AWS provider adds to a node_config before it calls RunInstances."""
OF_AWS = {"m7i.xlarge": (4, 0), "m7i.2xlarge": (8, 0), "g6.2xlarge": (8, 1)}
"""vCPUs and GPUs as https://aws.amazon.com/ec2/instance-types lists them."""


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@cache
def launch_shape() -> Shape:
    """The parameters of RunInstances, as the AWS client itself knows them."""
    model = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")
    return model.operation_model("RunInstances").input_shape


def complaints(node_config: dict[str, Any]) -> list[str]:
    """What EC2 would reject in a launch: unknown or missing names, wrong types, values that are not in an enum."""
    found = ParamValidator().validate({**node_config, **FILLED_IN}, launch_shape()).generate_report()
    return [*filter(None, found.split("\n")), *strange_values(node_config, launch_shape(), "")]


def strange_values(value: Any, shape: Shape, where: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, part in value.items():
            if name in shape.members:
                yield from strange_values(part, shape.members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for part in value:
            yield from strange_values(part, shape.member, where)
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield f"{where}: {value}"


def test_layer_1_ray_s_schema(config):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        jsonschema.validate({**config, "idle_timeout_minute": 5}, schema)


def test_layer_2_ray_s_own_preparation(config):
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    types = prepared["available_node_types"]
    assert {name: (one["min_workers"], one["max_workers"]) for name, one in types.items()} == {
        "head": (0, 0),
        "cpu": (1, 4),
        "gpu": (0, 8),
    }
    assert sum(one["max_workers"] for one in types.values()) == prepared["max_workers"]
    # Ray's defaults would install other versions beside ours.
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == config["setup_commands"]


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_layer_3_what_ec2_takes(config, name):
    assert complaints(config["available_node_types"][name]["node_config"]) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"InstanceType": "g6.2xlargo"}, "InstanceType: g6.2xlargo"),
        ({"ImageID": "ami-0"}, "ImageID"),
        ({"InstanceMarketOptions": {"MarketType": "spots"}}, "MarketType: spots"),
        ({"BlockDeviceMappings": [{"Ebs": {"VolumeSize": "200"}}]}, "VolumeSize"),
    ],
)
def test_layer_3_finds_mistakes_that_ray_does_not(config, change, complaint):
    config["available_node_types"]["gpu"]["node_config"].update(change)
    validate_config(prepare_config(copy.deepcopy(config)))
    found = complaints(config["available_node_types"]["gpu"]["node_config"])
    assert len(found) == 1 and complaint in found[0]


def test_layer_4_ray_launches_every_node_on_an_imitation_of_aws(config, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps the key of its machines in ~/.ssh
    region = config["provider"]["region"]
    with mock_aws():
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        ec2, iam = boto3.client("ec2", region), boto3.client("iam", region)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        for node in config["available_node_types"].values():
            node["node_config"]["ImageId"] = image
        for profile in ("flawforge-head", "flawforge-worker"):
            iam.create_instance_profile(InstanceProfileName=profile)
        ready = AWSNodeProvider.bootstrap_config(prepare_config(config))
        provider = AWSNodeProvider(ready["provider"], ready["cluster_name"])
        for name, node in ready["available_node_types"].items():
            kind = "head" if name == "head" else "worker"
            tags = {TAG_RAY_NODE_KIND: kind, TAG_RAY_USER_NODE_TYPE: name, TAG_RAY_NODE_NAME: name}
            provider.create_node(node["node_config"], tags, 1)
        launched = [one for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]]
        (group,) = {one["SecurityGroups"][0]["GroupId"] for one in launched}
        rules = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert [
        (one["InstanceType"], one.get("InstanceLifecycle"), one["IamInstanceProfile"]["Arn"].split("/")[-1])
        for one in launched
    ] == [
        ("m7i.xlarge", None, "flawforge-head"),
        ("m7i.2xlarge", None, "flawforge-worker"),
        ("g6.2xlarge", "spot", "flawforge-worker"),
    ]
    # From outside the cluster only SSH comes in: neither jobs nor metrics.
    assert {(rule["FromPort"], rule["ToPort"]) for rule in rules if rule["IpRanges"]} == {(22, 22)}


def test_resources_are_those_of_the_instances_and_the_head_takes_no_work(config):
    for name, node in config["available_node_types"].items():
        cpus, gpus = OF_AWS[node["node_config"]["InstanceType"]]
        assert node["resources"] == ({"CPU": 0, "GPU": 0} if name == "head" else resources(cpus, gpus))


def resources(cpus: int, gpus: int) -> dict[str, int]:
    return {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}


def test_gpus_are_spot_from_zero_and_the_rest_is_not(config):
    types = config["available_node_types"]
    assert types["gpu"]["min_workers"] == 0
    assert {name for name, node in types.items() if "InstanceMarketOptions" in node["node_config"]} == {"gpu"}
    # A spot request that persists would start machines that Ray does not know of.
    spot = types["gpu"]["node_config"]["InstanceMarketOptions"]["SpotOptions"]
    assert spot == {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    assert config["provider"]["cache_stopped_nodes"] is False


def test_every_node_has_one_image_and_a_profile_of_aws_roles(config):
    nodes = {name: node["node_config"] for name, node in config["available_node_types"].items()}
    assert len({node["ImageId"] for node in nodes.values()}) == 1
    profiles = {
        part["Properties"]["InstanceProfileName"]
        for part in aws_roles()["Resources"].values()
        if part["Type"] == "AWS::IAM::InstanceProfile"
    }
    assert {node["IamInstanceProfile"]["Name"] for node in nodes.values()} == profiles
    assert (
        nodes["cpu"]["IamInstanceProfile"]
        == nodes["gpu"]["IamInstanceProfile"]
        == {"Name": "flawforge-worker"}
    )
    assert nodes["head"]["IamInstanceProfile"] == {"Name": "flawforge-head"}


def aws_roles() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / "aws-roles.yaml").read_text())


def test_workers_reach_the_bucket_only_and_the_head_may_start_workers():
    parts = aws_roles()["Resources"]
    for part in parts.values():
        for reference in references(part):
            assert reference in {*parts, *aws_roles()["Parameters"]}
    assert parts["WorkerRole"]["Properties"]["ManagedPolicyArns"] == [{"Ref": "BucketPolicy"}]
    assert "Policies" not in parts["WorkerRole"]["Properties"]
    statements = parts["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert all("${Bucket}" in statement["Resource"]["Fn::Sub"] for statement in statements)
    (own,) = parts["HeadRole"]["Properties"]["Policies"]
    (statement,) = own["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["iam:PassRole"]
    assert statement["Resource"] == {"Fn::GetAtt": ["WorkerRole", "Arn"]}


def references(value: Any) -> Iterator[str]:
    """Names that Ref, Fn::GetAtt and Fn::Sub of a CloudFormation template point to, without AWS's own."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "Ref":
                yield part
            elif key == "Fn::GetAtt":
                yield part[0]
            elif key == "Fn::Sub":
                yield from (
                    name for name in re.findall(r"\$\{([^}]+)\}", part) if not name.startswith("AWS::")
                )
            else:
                yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_tokens_metrics_and_ports(config):
    (head,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
    (worker,) = (line for line in config["worker_start_ray_commands"] if "ray start" in line)
    for line in (head, worker):
        assert "RAY_AUTH_MODE=token" in line and "--metrics-export-port=8080" in line
    # The job port is remote execution: it is not open to the network, token or not.
    assert "--dashboard-host=127.0.0.1" in head and "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_what_is_installed_is_pinned(config):
    lines = "\n".join(config["setup_commands"])
    assert "--constraint constraints.txt" in lines
    assert re.search(r"astral\.sh/uv/\d+\.\d+\.\d+/install\.sh", lines)
    assert "--python 3.11" in lines
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert "ray" in pinned


def test_the_paper_s_recipe_fits_into_the_largest_cluster(config):
    types = config["available_node_types"]
    capacity = {
        unit: sum(node["resources"].get(unit, 0) * node.get("max_workers", 0) for node in types.values())
        for unit in ("CPU", "GPU")
    }
    execution = load_recipe("sd15", ["execution.corrupt.largest=8"]).execution
    stages = (execution.load, execution.select, execution.corrupt, execution.write)
    assert sum(stage.cpus * stage.largest for stage in stages) <= capacity["CPU"]
    assert sum(stage.gpus * stage.largest for stage in stages) == capacity["GPU"] == 8
