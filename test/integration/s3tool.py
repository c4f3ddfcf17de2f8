"""Runs the s3 driver by itself (s3_tool.c) against a store."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool():
    """$SALVOR_S3_TOOL, else the sanitized build's."""
    return os.environ.get("SALVOR_S3_TOOL") or str(ROOT / "build/asan/test/integration/s3_tool")


def url(endpoint, bucket, prefix="", **more):
    return f"s3://{bucket}/{prefix}?" + "&".join(f"{k}={v}" for k, v in {"endpoint": endpoint, **more}.items())


def keys_of(access, secret, token=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    env.update(AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=secret, **({"AWS_SESSION_TOKEN": token} if token else {}))
    return env


def run(place, operations, env, fence="fenced", patience_ms=20000, timeout=180):
    """The answers, one an operation (the probe's own first where fence is "probe")."""
    text = "".join(f"{line}\n" for line in operations)
    done = subprocess.run([tool(), place, fence, str(patience_ms)], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, env=env)
    assert "Sanitizer" not in done.stderr, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(operations) + (fence == "probe"), (done.returncode, done.stdout, done.stderr)
    return answers
