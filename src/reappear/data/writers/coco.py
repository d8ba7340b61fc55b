import json
from collections.abc import Sequence
from pathlib import Path

from reappear.data.images import ending, open_image

from .writer import Crop, Entries, Entry, write_array


class CocoWriter:
    """COCO's JSON: `annotations.json` and `images/`; each crop is an image with one annotation that fills it.

    A video has `name`, `camera_id`, and as `camera` its name; an image `video_id`, `frame_id`, `camera_id`; an
    annotation `track_id` (the tracklet), `identity_id`, and `video_bbox`, where the crop was in the video's picture, as
    left, top, width, height.
    """

    def block(self, folder: Path, number: int, crops: Sequence[Crop]) -> list[Entry]:
        """See `Writer`."""
        (folder / "images").mkdir(exist_ok=True)
        entries = []
        for crop in crops:
            path = f"images/{crop.place:08d}{ending(crop.image)}"
            (folder / path).write_bytes(crop.image)
            with open_image(crop.image) as image:
                width, height = image.size
            left, top, right, bottom = crop.box
            entries.append(
                {
                    "place": crop.place,
                    "path": path,
                    "size": [width, height],
                    "video": crop.video,
                    "video_name": crop.video_name,
                    "camera": crop.camera,
                    "camera_name": crop.camera_name,
                    "frame": crop.frame,
                    "tracklet": crop.tracklet,
                    "identity": crop.identity,
                    "score": crop.score,
                    "box": [left, top, right - left, bottom - top],
                }
            )
        return entries

    def finish(self, folder: Path, entries: Entries) -> None:
        """See `Writer`."""
        keys = ("video", "video_name", "camera", "camera_name")
        videos = sorted({tuple(entry[key] for key in keys) for entry in entries})
        with (folder / "annotations.json").open("w", encoding="utf-8") as file:
            file.write('{"categories": [{"id": 1, "name": "person"}],\n"videos": ')
            file.write(
                json.dumps([dict(zip(("id", "name", "camera_id", "camera"), video, strict=True)) for video in videos])
            )
            file.write(',\n"images": ')
            write_array(file, map(_image, entries))
            file.write(',\n"annotations": ')
            write_array(file, map(_annotation, entries))
            file.write("}\n")


def _image(entry: Entry) -> Entry:
    return {
        "id": entry["place"] + 1,
        "file_name": entry["path"],
        "width": entry["size"][0],
        "height": entry["size"][1],
        "video_id": entry["video"],
        "camera_id": entry["camera"],
        "frame_id": entry["frame"],
    }


def _annotation(entry: Entry) -> Entry:
    width, height = entry["size"]
    return {
        "id": entry["place"] + 1,
        "image_id": entry["place"] + 1,
        "category_id": 1,
        "bbox": [0, 0, width, height],
        "area": width * height,
        "iscrowd": 0,
        "score": entry["score"],
        "track_id": entry["tracklet"],
        "identity_id": entry["identity"],
        "video_bbox": entry["box"],
    }
