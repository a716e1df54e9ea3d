"""OpenAI's operations on files, and on uploads in parts."""

from collections.abc import Sequence
from typing import Any, Final

from finetune.sandbox.openai.bodies import COMPLETION, EXPIRY, NOTHING, PURPOSES, UPLOAD, fields, text
from finetune.sandbox.openai.files import File, Files, Upload, checked_file
from finetune.sandbox.openai.forms import Part, form, values
from finetune.sandbox.openai.front import Front, Operation
from finetune.sandbox.openai.paging import flag_of, listing, page_of
from finetune.sandbox.openai.words import Refused, missing_parameter
from finetune.sandbox.service import Request

_FORM: Final = fields({"purpose": text(choices=PURPOSES)}, {"expires_after": fields(EXPIRY, {})})


class Filing(Front):
    """The part of the stand-in that keeps files."""

    files: Files

    def filing(self) -> Sequence[Operation]:
        """The operations of this part."""
        return [
            ("POST", "/files", "upload", self._upload, ()),
            ("GET", "/files", "files", self._list_files, ("after", "limit", "order", "purpose")),
            ("GET", "/files/{id}", "file", lambda request: self.file(self.files.get(request.parts["id"])), ()),
            ("DELETE", "/files/{id}", "file_delete", self._delete_file, ()),
            ("GET", "/files/{id}/content", "content", self._content, ()),
            ("POST", "/uploads", "upload_create", self._begin_upload, ()),
            ("POST", "/uploads/{id}/parts", "upload_part", self._add_part, ()),
            ("POST", "/uploads/{id}/complete", "upload_complete", self._complete_upload, ()),
            ("POST", "/uploads/{id}/cancel", "upload_cancel", self._cancel_upload, ()),
        ]

    def file(self, file: File) -> dict[str, Any]:
        """A file as it goes out."""
        return {
            "object": "file",
            "id": file.id,
            "purpose": file.purpose,
            "filename": file.filename,
            "bytes": len(file.content),
            "created_at": file.created_at,
            "expires_at": file.expires_at,
            "status": self.file_status(file),
            "status_details": None,
        }

    def file_status(self, file: File) -> str:
        """The word for a file's state."""
        return "processed" if self.now() >= file.ready_at else "uploaded"

    def usable(self, file: File, param: str) -> None:
        """Refuse a file that cannot be trained on now. Raises Refused."""
        if file.purpose != "fine-tune":
            message = f"File '{file.id}' has the purpose '{file.purpose}', but must have 'fine-tune'."
            raise Refused(400, message, code="invalid_file_purpose", param=param)
        if self.now() < file.ready_at:
            message = f"File '{file.id}' is still being processed and is not ready to be used for fine-tuning."
            raise Refused(400, message, code="file_not_ready", param=param)

    def _upload(self, request: Request) -> Any:
        parts = form(request.body, request.headers.get("content-type", ""))
        said = values(parts, ("file",))
        _FORM(said, "")
        if "file" not in parts:
            raise missing_parameter("file")
        filename, content = checked_file(parts["file"])
        expires_s = said.get("expires_after", {}).get("seconds")
        return self.file(self.files.upload(filename, said["purpose"], content, expires_s))

    def _list_files(self, request: Request) -> Any:
        order = flag_of(request.query, "order", ("asc", "desc"))
        page = page_of(request.query, 10_000, 10_000)
        files, more = self.files.page(request.one("purpose"), page.after, page.limit, order != "asc")
        return listing([self.file(file) for file in files], more, ends=True)

    def _delete_file(self, request: Request) -> Any:
        self.files.delete(request.parts["id"])
        return {"object": "file", "deleted": True, "id": request.parts["id"]}

    def _content(self, request: Request) -> Any:
        return self.files.get(request.parts["id"]).content

    def _begin_upload(self, request: Request) -> Any:
        body = self.json(request)
        UPLOAD(body, "")
        return self._shown_upload(self.files.begin(body))

    def _add_part(self, request: Request) -> Any:
        parts: dict[str, Part] = form(request.body, request.headers.get("content-type", ""))
        NOTHING(values(parts, ("data",)), "")
        if "data" not in parts:
            raise missing_parameter("data")
        upload_id = request.parts["id"]
        part_id = self.files.add_part(upload_id, parts["data"].content)
        return {"object": "upload.part", "id": part_id, "created_at": int(self.now()), "upload_id": upload_id}

    def _complete_upload(self, request: Request) -> Any:
        body = self.json(request)
        COMPLETION(body, "")
        return self._shown_upload(self.files.complete(request.parts["id"], body["part_ids"], body.get("md5")))

    def _cancel_upload(self, request: Request) -> Any:
        NOTHING(self.json(request, empty=True), "")
        return self._shown_upload(self.files.cancel(request.parts["id"]))

    def _shown_upload(self, upload: Upload) -> dict[str, Any]:
        return {
            "object": "upload",
            "id": upload.id,
            "bytes": upload.size,
            "created_at": upload.created_at,
            "filename": upload.filename,
            "purpose": upload.purpose,
            "status": upload.state(self.now()),
            "expires_at": upload.expires_at,
            **({"file": self.file(upload.file)} if upload.file else {}),
        }
