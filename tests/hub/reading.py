"""What the hub does when it is read: a request and the repositories in, an answer out, nothing waited for."""

import re
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response

from hub.store import Refusal


def info(call):
    sizes = "blobs" in call.request.query_params
    siblings = [
        {"rfilename": path}
        | ({"size": len(file.content), "blobId": file.git_id, **file.large("sha256")} if sizes else {})
        for path, file in call.commit.files.items()
    ]
    id = "/".join(call.key.split("/")[-2:])
    told = {"_id": id, "id": id, "author": id.split("/")[0], "sha": call.commit.sha, "siblings": siblings}
    told |= {"private": call.repo.private, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
    return JSONResponse(told | {"lastModified": call.commit.date, "createdAt": call.repo.history()[0].date})


def tree(call):
    """A page of a folder's entries, with the address of the next page."""
    folder, query = call.path.get("path", ""), call.request.query_params
    start, commit = f"{folder}/" if folder else "", call.commit
    names = [name.removeprefix(start) for name in commit.below(folder)]
    if not names and folder:
        raise Refusal(404, f"{folder} does not exist", "EntryNotFound", commit.sha)
    parts = [name.split("/") for name in names]
    deepest = max(map(len, parts), default=0) if query.get("recursive", "").lower() == "true" else 1
    found = {start + "/".join(part[:depth]) for part in parts for depth in range(1, min(len(part), deepest) + 1)}
    entries, first = [commit.listed(path) for path in sorted(found)], int(query.get("cursor", 0))
    last = first + call.hub.page
    following = call.request.url.include_query_params(cursor=last)
    more = {"Link": f'<{call.origin}{following.path}?{following.query}>; rel="next"'} if last < len(entries) else {}
    return JSONResponse(entries[first:last], headers=more)


def paths_info(call):
    form = call.request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    paths = parse_qs(call.body.decode()).get("paths", []) if form else call.json["paths"]
    found = (call.commit.listed(path.rstrip("/")) for path in paths)
    return JSONResponse([entry for entry in found if entry])


def refs(call):
    def named(names, place):
        return [{"name": name, "ref": f"{place}{name}", "targetCommit": sha} for name, sha in names.items()]

    pulls = {name: sha for name, sha in call.repo.branches.items() if name.startswith("refs/pr/")}
    heads = {name: sha for name, sha in call.repo.branches.items() if name not in pulls}
    told = {"branches": named(heads, "refs/heads/"), "tags": named(call.repo.tags, "refs/tags/"), "converts": []}
    return JSONResponse(told | {"pullRequests": named(pulls, "")})


def commits(call):
    told = [
        {"id": commit.sha, "title": commit.title, "message": commit.message, "date": commit.date, "authors": []}
        for commit in reversed(call.repo.history(call.path["revision"]))
    ]
    return JSONResponse(told)


def head(call):
    return resolve(call)


def resolve(call):
    """A file, or where it is if it is large; every answer names the commit, which the client insists on."""
    commit, path = call.commit, call.path["path"]
    if path not in commit.files:
        raise Refusal(404, f"{path} does not exist", "EntryNotFound", commit.sha)
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.etag}"'}
    if not file.lfs:
        return _part(call, file.content, headers)
    size = str(len(file.content))
    linked = {"X-Linked-ETag": f'"{file.etag}"', "X-Linked-Size": size, "Location": f"{call.storage}/{file.sha256}"}
    return Response(status_code=302, headers=headers | linked)


def download(call):
    if call.path["oid"] not in call.hub.storage:
        raise Refusal(404, "There is no such content")
    return _part(call, call.hub.storage[call.path["oid"]], {"ETag": f'"{call.path["oid"]}"'})


def _part(call, content, headers):
    """All bytes, or those that were asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", call.request.headers.get("range", ""))
    if wanted is None:
        return Response(content, headers=headers | {"Accept-Ranges": "bytes"})
    first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
    if first > last:
        raise Refusal(416, f"bytes */{len(content)}")
    headers |= {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return Response(content[first : last + 1], 206, headers)
