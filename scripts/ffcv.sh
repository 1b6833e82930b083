# shellcheck shell=sh
# How `run` adds FFCV to .venv. Sourced by `run`, whose functions and variables it uses; POSIX sh.
#
# FFCV 1.0.2 compiles against all of OpenCV (216 Debian packages) but uses only cv::resize and TurboJPEG. A
# pkg-config file and a header that name just those parts let it build on 14 packages.

ffcv_libraries() { # true if everything that FFCV compiles against is installed
    command -v pkg-config >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 && pkg-config --exists libturbojpeg &&
        { [ -f /usr/include/opencv4/opencv2/imgproc.hpp ] || pkg-config --exists opencv4; } &&
        "$venv/bin/python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

ffcv_packages() { # prints the names of Debian's packages
    case $("$venv/bin/python" -c 'import os, sys; print(os.path.realpath(sys.executable))') in
        /usr/bin/*) set -- "libpython$(venv_version | cut -d. -f1,2)-dev" ;;
        *) set -- ;;
    esac
    echo g++ pkg-config libopencv-imgproc-dev libturbojpeg0-dev "$@"
}

ffcv_shim() { # exports the paths of the small header and pkg-config file, which stay in .venv
    [ -f /usr/include/opencv4/opencv2/imgproc.hpp ] || return 0 # not Debian's layout: pkg-config finds OpenCV
    shim=$venv/ffcv-build
    mkdir -p "$shim/opencv2"
    printf '#include <opencv2/core.hpp>\n#include <opencv2/imgproc.hpp>\n' >"$shim/opencv2/opencv.hpp"
    printf 'Name: opencv4\nDescription: the part that FFCV uses\nVersion: 4\nCflags:\nLibs: -lopencv_imgproc -lopencv_core\n' \
        >"$shim/opencv4.pc"
    export CPATH="$shim:/usr/include/opencv4${CPATH:+:$CPATH}"
    export PKG_CONFIG_PATH="$shim${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
}

add_ffcv() { # exit status 1: the installation failed; 2: this user may not install the system libraries
    (
        ! command -v flock >/dev/null 2>&1 || flock 9 || :
        want=$(key constraints.txt)
        ! stamped ffcv "$want" || exit 0
        [ -w "$venv" ] || stop 2 "cannot write to $venv; run: git clone $root ~/isoflop"
        if ! ffcv_libraries; then
            packages=$(ffcv_packages)
            if ! may_install; then
                say "FFCV not installed: system libraries are missing; run as root: apt install $packages"
                exit 2
            fi
            say "installing Debian's $packages"
            # shellcheck disable=SC2086  # a list of names
            if ! apt_install $packages || ! ffcv_libraries; then
                say "FFCV not installed: its system libraries could not be installed; run as root: apt install $packages"
                exit 1
            fi
        fi
        ffcv_shim
        # Without FFCV's own dependencies: it requires opencv-python, whose wheel needs libGL and X11.
        pip "installing FFCV's dependencies (about half a minute)" -e ".[ffcv-needs]" || exit 1
        pip "compiling FFCV (about ten seconds)" --no-deps --no-cache-dir ffcv==1.0.2 || exit 1
        say "checking FFCV on five images"
        if ! (cd "$venv" && exec "$venv/bin/python" "$root/scripts/check_ffcv.py") >>"$log" 2>&1; then
            tail -n 5 "$log" >&2
            "$venv/bin/python" -m pip uninstall -qy ffcv >/dev/null 2>&1 </dev/null || :
            say "FFCV not installed: it was built but fails its check; the full output is in $log"
            exit 1
        fi
        rm -f "$venv/ffcv-failed.stamp"
        stamp ffcv "$want"
        say "FFCV works"
    ) 9<"$root/run"
}

add_ffcv_if_possible() { # always succeeds; a failure is recorded, so that later calls do not try again
    if stamped ffcv-failed "$(key constraints.txt)"; then
        say "continuing without FFCV: an earlier installation failed; to try again: ./run ffcv"
        return 0
    fi
    status=0
    add_ffcv || status=$?
    case $status in
        0) ;;
        2) say "continuing without FFCV" ;;
        *)
            stamp ffcv-failed "$(key constraints.txt)"
            say "continuing without FFCV; to try again: ./run ffcv"
            ;;
    esac
}
