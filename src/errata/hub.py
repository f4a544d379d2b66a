"""An export sent to the Hugging Face hub: the model and the dataset, each as a repository of its own."""

import os
from pathlib import Path

from errata.errors import ErrataError


def push(folder: Path, name: str, private: bool, replace: bool) -> list[str]:
    """Make ORG/NAME and datasets/ORG/NAME and upload FOLDER/model and FOLDER/dataset.

    The token comes from HF_TOKEN, the server from HF_ENDPOINT, where that is set.

    Args:
        folder: an export.
        name: the repositories' name, ORG/NAME.
        private: whether they are to be private.
        replace: whether they may exist; then each is made to hold the new files only (its history keeps the old ones).

    Returns:
        Where they are.

    Raises:
        ErrataError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    token = os.environ["HF_TOKEN"]
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    parts = [kind for kind in ("model", "dataset") if (folder / kind).is_dir()]
    places = []
    try:
        for kind in parts:  # both, before anything is sent
            api.create_repo(name, repo_type=kind, private=private, exist_ok=replace)
            if private and replace and not api.repo_info(name, repo_type=kind).private:
                raise ErrataError(
                    f"{name} ({kind}) exists and is public: make it private on the hub, or leave --private out"
                )
        for kind in parts:
            sent = api.upload_folder(
                repo_id=name,
                folder_path=folder / kind,
                repo_type=kind,
                commit_message="Exported by Errata",
                delete_patterns="*" if replace else None,
            )
            places.append(str(sent.repo_url))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        said = " ".join(str(error).split()).replace(token, "...")[:300]
        raise ErrataError(
            f"the push to {name} failed: {said}\n{folder} is complete: mend it and give the same command with --force, "
            "or upload its folders by hand"
        ) from error
    return places
