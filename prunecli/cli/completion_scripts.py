"""The scripts with which shells request completions, and where they go. None evaluates the program's answers."""

import os
from pathlib import Path

from prunecli.errors import OutputError, show

__all__ = ["ASKED", "SCRIPTS", "install"]

ASKED = "_PRUNECLI_COMPLETE"
"""The environment variable that makes the program answer a completion request; its value is the shell's name."""

_BASH = r"""# Completion of prunecli in bash.
_prunecli() {
    local kind= line
    COMPREPLY=()
    {
        IFS= read -r kind
        while IFS= read -r line; do COMPREPLY+=("$line"); done
    } < <(_PRUNECLI_COMPLETE=bash "${1/#\~/$HOME}" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null </dev/null)
    case $kind in
        files) compopt -o default 2>/dev/null ;;
        steps) compopt -o nospace 2>/dev/null ;;
    esac
}
complete -F _prunecli prunecli
"""

_ZSH = r"""#compdef prunecli
# Completion of prunecli in zsh.
_prunecli() {
    local -a lines values shown blank
    local line
    lines=("${(@f)$(_PRUNECLI_COMPLETE=zsh ${~words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" \
        2>/dev/null </dev/null)}")
    compset -P '--[^=]##='
    if [[ $lines[1] == files ]]; then
        _files
        return
    fi
    for line in "${(@)lines[2,-1]}"; do
        values+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  }")
    done
    [[ $lines[1] == steps ]] && blank=(-S '')
    compadd $blank -l -d shown -a -- values
}
if [[ $funcstack[1] == _prunecli ]]; then
    _prunecli "$@"
else
    compdef _prunecli prunecli
fi
"""

_FISH = r"""# Completion of prunecli in fish.
function __prunecli_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~(?=/|$)' -- $HOME $words[1])
    set -l lines (_PRUNECLI_COMPLETE=fish command $program $words[2..-1] "$current" 2>/dev/null </dev/null)
    switch "$lines[1]"
        case files
            __fish_complete_path (string replace -r -- '^--[^=]*=' '' "$current")
        case '*'
            test (count $lines) -gt 1; and printf '%s\n' $lines[2..-1]
    end
end
complete -c prunecli -f -a '(__prunecli_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def install(shell: str) -> tuple[Path, str]:
    """Install a shell's script where the shell looks for it; return the path, and any remaining step as text.

    Raises:
        OutputError: it cannot be written.
    """
    home = Path.home()
    if shell == "bash":
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
        path = data / "bash-completion" / "completions" / "prunecli"
        advice = f"new shells load it if bash-completion is installed; if not, add to ~/.bashrc: source '{path}'"
    elif shell == "zsh":
        path = Path(os.environ.get("ZDOTDIR") or home) / ".zfunc" / "_prunecli"
        advice = f"add to .zshrc, unless it is there: fpath+=('{path.parent}'); autoload -Uz compinit; compinit"
    else:
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        path = config / "fish" / "completions" / "prunecli.fish"
        advice = "new shells load it"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPTS[shell], encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {show(path)}: {error.strerror}") from None
    return path, advice
