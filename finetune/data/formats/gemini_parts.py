"""Parts of Gemini's contents that are no calls: texts, images and audio, each as OpenAI's part and back.

Data stands in the row (`inlineData`) or at Google's storage and in the web (`fileData`), there with a type. OpenAI's
parts have no place for the type of something at a URL, so it has to be the one that the end of the name tells.
"""

from collections.abc import Iterator
from typing import Any, Final

from finetune.data.example import Audio, Chat, Image, ImageUrl, Part, Refusal, Sound, Text
from finetune.data.formats import media
from finetune.data.formats.proto import take

UNFIT: Final = "images that are neither in the row nor, with a known ending, at gs:// or https://"

#: By MIME type; the first of a format is the one that is written.
SOUNDS: Final = {"audio/wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
_SOUND_TYPES: Final = {format: type for type, format in reversed(SOUNDS.items())}
_SCHEMES: Final = ("gs", "https", "http")


def read(part: dict[str, Any]) -> Part:
    """A part without faults."""
    if (inline := take(part, "inlineData")) is not None:
        type = take(inline, "mimeType")
        if type in SOUNDS:
            return Audio(Sound(inline["data"], SOUNDS[type]))  # type: ignore[arg-type]
        return Image(ImageUrl(media.data_url(type, inline["data"])))
    if (file := take(part, "fileData")) is not None:
        return Image(ImageUrl(take(file, "fileUri")))
    return Text(part["text"])


def write(part: Part) -> dict[str, Any] | None:
    """The part; None for one that has no place here."""
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Refusal):
        return {"text": part.refusal}
    if isinstance(part, Audio):
        sound = part.input_audio
        return {"inlineData": {"mimeType": _SOUND_TYPES[sound.format], "data": sound.data}}
    return _image(part.image_url.url) if isinstance(part, Image) else None


def _image(url: str) -> dict[str, Any] | None:
    if (found := media.inline(url)) is not None:
        if not found.type.startswith("image/"):
            return None
        return {"inlineData": {"mimeType": found.type, "data": found.data}}
    type = media.image_type(url)
    if type is None or media.scheme(url) not in _SCHEMES:
        return None
    return {"fileData": {"mimeType": type, "fileUri": url}}


def refuses(chat: Chat) -> Iterator[str]:
    """A word for images that have no place here."""
    for each in chat.messages:
        for part in each.content if isinstance(each.content, list) else ():
            if isinstance(part, Image) and write(part) is None:
                yield UNFIT
