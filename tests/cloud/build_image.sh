#!/usr/bin/env bash
# Build the image without a registry and try it: tests/cloud/build_image.sh WORK_FOLDER [OPTION OF buildah bud]...
# Requires root and Debian's packages buildah and debootstrap. The base is not NVIDIA's image but a stand-in, a minimal
# Debian: everything is built and run for real except CUDA. Options may mount what the network here requires, such as
# --volume /etc/pip.conf:/etc/pip.conf:ro
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=${1:?give a folder with 20 GB of free space}
shift
mkdir -p "$work"
work=$(cd "$work" && pwd)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
export CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$work" "$work" >"$CONTAINERS_STORAGE_CONF"
base=localhost/cuda-stand-in image=localhost/qdsft

if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  [[ -e $work/debian/etc/debian_version ]] || debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" >"$work/debootstrap.log"
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/debian" / >/dev/null
  buildah commit --quiet --rm "$container" "$base" >/dev/null
fi

started=$SECONDS
git ls-files -z | tar --create --null --files-from=- | (rm -rf "$work/context" && mkdir "$work/context" && tar --extract --directory "$work/context")
buildah bud --build-arg "CUDA_IMAGE=$base" "$@" --tag "$image" "$work/context" >"$work/build.log" 2>&1 ||
  { tail -40 "$work/build.log" >&2; exit 1; }
echo "built in $((SECONDS - started)) s"

# What docker run does, for a user who is neither root nor the image's own, with mounted folders to write to.
container=$(buildah from "$image")
trap 'buildah rm "$container" >/dev/null' EXIT
mkdir -p "$work/outputs" "$work/models" "$work/cache"
chown 4321:4321 "$work/outputs" "$work/models" "$work/cache"
in_image() {
  buildah run --user 4321:4321 --env HF_HUB_OFFLINE=1 --volume "$work/outputs:/app/outputs" --volume "$work/models:/app/models" \
    --volume "$work/cache:/home/qdsft/.cache" "$container" -- /usr/bin/env "$@"
}
in_image qdsft doctor || [[ $? == 1 ]] # it misses a GPU
in_image python scripts/make_tiny_model.py --architecture llama models/tiny-llama
in_image qdsft train recipes/tiny/full.yaml data.train=data/examples/sample_train.jsonl data.eval=null training.max_steps=5
in_image qdsft decompose outputs/tiny-full "Who is older, Ada Lovelace or Charles Babbage?"
[[ $(stat --format %u "$work/outputs/tiny-full/run.json") == 4321 ]]
! in_image touch /app/qdsft/written 2>/dev/null || { echo "the image's own files can be written" >&2; exit 1; }

buildah inspect --type image --format '{{len .OCIv1.RootFS.DiffIDs}} layers, user {{.OCIv1.Config.User}}{{println}}' "$image"
mounted=$(buildah mount "$container")
du --summarize --human-readable --one-file-system "$mounted" | sed "s|$mounted|in the image|"
if found=$(find "$mounted/app" "$mounted/home" \( -name '.env' -o -name '*.pem' -o -name '.git' -o -name 'token' \) -print -quit) && [[ $found ]]; then
  echo "the image holds $found" >&2
  exit 1
fi
