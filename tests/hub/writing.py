"""What the hub does when it is written to: a request and the repositories in, an answer out, nothing waited for."""

import base64
import hashlib
import json
import re

import yaml
from starlette.responses import JSONResponse, Response

from hub.store import File, Refusal, Repo, key_of

USER = "tester"


def whoami(call):
    return JSONResponse({"type": "user", "id": USER, "name": USER, "fullname": USER, "orgs": [], "auth": {}})


def create(call):
    wanted = call.json
    key = key_of(wanted.get("type", "model"), wanted["organization"] or USER, wanted["name"])
    there = key in call.hub.repos
    if not there:
        call.hub.repos[key] = Repo(key, wanted.get("visibility") == "private")
    said = {"error": "You already created this repo"} if there else {}
    return JSONResponse({"url": f"{call.origin}/{key}", "id": key, "name": key, **said}, 409 if there else 200)


def delete(call):
    gone = call.json
    key = key_of(gone.get("type", "model"), gone["organization"] or USER, gone["name"])
    if call.hub.repos.pop(key, None) is None:
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return JSONResponse({})


def validate_yaml(call):
    """Judge the front matter of a card; that there is none is only worth a warning."""
    front = re.match(r"---\r?\n(.*?)\r?\n---", call.json["content"], re.DOTALL)
    missing = [] if front else [{"message": "empty or missing yaml metadata in repo card"}]
    try:
        yaml.safe_load(front[1] if front else "")
    except yaml.YAMLError as error:
        return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return JSONResponse({"errors": [], "warnings": missing})


def preupload(call):
    """Say how each file is to be sent, and what is there under its name, so that nothing is sent twice."""
    told, there = [], call.commit.files
    for entry in call.json["files"]:
        path, start = entry["path"], base64.b64decode(entry["sample"])
        large = call.hub.is_large(path, start, entry["size"])
        answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        told.append(answer | ({"oid": there[path].etag} if path in there else {}))
    return JSONResponse({"files": told})


def batch(call):
    """Say where the bytes of large files go that the hub has not."""
    objects = []
    for entry in call.json["objects"]:
        places = {"upload": f"{call.storage}/{entry['oid']}", "verify": f"{call.origin}/api/lfs-verify"}
        actions = {what: {"href": place} for what, place in places.items()}
        objects.append(entry | ({} if entry["oid"] in call.hub.storage else {"actions": actions}))
    return JSONResponse({"transfer": "basic", "objects": objects})


def upload(call):
    if hashlib.sha256(call.body).hexdigest() != call.path["oid"]:
        raise Refusal(400, "The content does not have this hash")
    call.hub.storage[call.path["oid"]] = call.body
    return Response()


def verify(call):
    if len(call.hub.storage.get(call.json["oid"], b"")) != call.json["size"]:
        raise Refusal(404, "The content was not uploaded")
    return JSONResponse({})


def commit(call):
    """Put all changes on a branch as one commit, or none of them."""
    head, *lines = (json.loads(line) for line in call.body.splitlines())
    parent = head["value"].get("parentCommit")
    if parent is not None and not call.commit.sha.startswith(parent):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    changes, onto, pull = {}, None, {}
    for line in lines:
        key, value = line["key"], line["value"]
        if key == "file":
            changes[value["path"]] = File(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in call.hub.storage:
                raise Refusal(400, f"Your push was rejected: {value['path']} was not uploaded")
            changes[value["path"]] = File(call.hub.storage[value["oid"]], lfs=True)
        else:  # deletedFile, deletedFolder
            changes[value["path"].rstrip("/") + "/" * (key == "deletedFolder")] = None
    if "create_pr" in call.request.query_params:
        number = 1 + sum(name.startswith("refs/pr/") for name in call.repo.branches)
        onto, pull = f"refs/pr/{number}", {"pullRequestUrl": f"{call.origin}/{call.key}/discussions/{number}"}
    title, message = head["value"]["summary"], head["value"]["description"]
    made = call.repo.commit(call.path["revision"], changes, title, message, onto)
    url = f"{call.origin}/{call.key}/commit/{made.sha}"
    return JSONResponse({"success": True, "commitOid": made.sha, "commitUrl": url, **pull})


def tag(call):
    return _name(call.repo.tags, call.json["tag"], call.commit)


def branch(call):
    return _name(call.repo.branches, call.path["branch"], call.repo.at(call.json.get("startingPoint", "main")))


def _name(names, name, commit):
    if name in names:
        raise Refusal(409, f"{name} exists already")
    names[name] = commit.sha
    return JSONResponse({})
