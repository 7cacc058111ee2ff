//! The table: what an agent, a person in the same terminal, and the system each do in the same words.

/// A command and who does it.
pub struct Row {
    pub name: &'static str,
    /// A line of bash; `LEAF` is the process that is looked at, `HOME` the directory of the programs.
    pub text: &'static str,
    /// The system does it too. Not where a terminal is opened: nothing tells a program's terminal from a person's.
    pub system: bool,
}

const fn all(name: &'static str, text: &'static str) -> Row {
    Row { name, text, system: true }
}

const fn both(name: &'static str, text: &'static str) -> Row {
    Row { name, text, system: false }
}

pub const ROWS: &[Row] = &[
    all("plain command", "LEAF; true"),
    all("exec in place", "exec LEAF"),
    all("shell in shell in shell", "bash -c \"sh -c 'bash -c \\\"LEAF; true\\\"; true'; true\""),
    all("middle of a pipeline", "true | LEAF | cat"),
    all("end of a pipeline", "(sleep 0.1; true) | LEAF"),
    all("subshell", "( (LEAF; true); true)"),
    all("background job", "LEAF & wait"),
    all("job left behind", "LEAF & disown; exit 0"),
    all("command substitution", "x=$(LEAF)"),
    all("process substitution", "cat <(LEAF)"),
    all("coprocess", "coproc LEAF; wait"),
    all("trap", "trap 'LEAF' EXIT; exit 0"),
    all("here-document to a shell", "bash <<< 'LEAF; true'"),
    all("setsid", "setsid LEAF"),
    all("setsid --fork", "setsid --fork LEAF"),
    all("nohup", "nohup LEAF"),
    all("nohup in the background, shell gone", "nohup LEAF > /dev/null 2>&1 & exit 0"),
    all("env -i", "env -i LEAF"),
    all("timeout", "timeout 900 LEAF"),
    all("nice", "nice -n 3 LEAF"),
    all("xargs", "echo 900 | xargs -I@ LEAF"),
    all("find -exec", "find / -maxdepth 0 -exec LEAF \\;"),
    all(
        "start-stop-daemon",
        "start-stop-daemon --start --background --pidfile /run/none --startas /bin/bash -- LEAF",
    ),
    all("busybox shell", "busybox sh -c 'LEAF; true'"),
    all("python subprocess", "python3 -c 'import subprocess; subprocess.run(\"LEAF\".split())'"),
    all(
        "python thread that starts a process",
        "python3 -c 'import subprocess as s, threading as t; x = t.Thread(target=s.run, args=[\"LEAF\".split()]); \
         x.start(); x.join()'",
    ),
    all(
        "python double fork",
        "python3 -c 'import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nos.execv(*(lambda w: \
         (w[0], w))(\"LEAF\".split()))'",
    ),
    all("python exec from a thread", PYTHON_THREAD_EXEC),
    all("traced by strace", "strace -f -o /dev/null LEAF"),
    all("unshare, mounts", "unshare --mount LEAF"),
    all("unshare, host name", "unshare --uts LEAF"),
    all("unshare, System V objects", "unshare --ipc LEAF"),
    all("unshare, network", "unshare --net LEAF"),
    all("unshare, process ids", "unshare --pid --fork --kill-child LEAF"),
    all("unshare, users", "unshare --user --map-root-user LEAF"),
    all("unshare, cgroups", "unshare --cgroup LEAF"),
    all("unshare, clock", "unshare --time LEAF"),
    all("unshare, all at once", "unshare -muinpfUrC --mount-proc LEAF"),
    all("chroot", "chroot / LEAF"),
    all(
        "a container by hand: namespaces and another root",
        "unshare -muipf --propagation private bash -c 'mount --bind / /mnt && mount -t proc proc /mnt/proc && exec \
         chroot /mnt LEAF'",
    ),
    all("nsenter to init's namespaces", "nsenter --target 1 --all LEAF"),
    all("sudo", "sudo LEAF"),
    all("sudo to another user", "sudo -u alice LEAF"),
    all("su", "su alice -c 'LEAF'"),
    all("su, login shell", "su - alice -c 'LEAF'"),
    all("runuser", "runuser -u alice -- LEAF"),
    all("setpriv", "setpriv --reuid 1000 --regid 1000 --clear-groups LEAF"),
    all("another user and back by sudo", "runuser -u alice -- sudo LEAF"),
    all(
        "set-id copy of a shell",
        "cp /bin/bash HOME/setid-$$; chmod 4755 HOME/setid-$$; HOME/setid-$$ -p -c 'LEAF; true'",
    ),
    all("socat that serves a unix socket", SOCAT),
    all("name changed by prctl", PYTHON_NAME),
    all("a zombie's child", "(LEAF & exec true) & exec sleep 900"),
    both("terminal by script", "script -qfc 'LEAF' /dev/null"),
    both("terminal by script, setsid within", "script -qfc 'setsid --wait LEAF' /dev/null"),
    both("terminal by socat", "socat EXEC:'LEAF',pty,setsid,ctty -"),
    both("interactive shell in a new terminal", "script -qfc \"bash --norc -ic 'LEAF; true'\" /dev/null"),
    both("tmux server of its own", "tmux -L t$$-$RANDOM -f /dev/null new-session -d 'LEAF'; sleep 900"),
];

const SOCAT: &str = "socat UNIX-LISTEN:/tmp/attribution-$$,unlink-early SYSTEM:'LEAF' & for i in 1 2 3 4 5 6 7 8 9; do \
                     sleep 0.3; socat -u OPEN:/dev/null UNIX-CONNECT:/tmp/attribution-$$ && break; done; wait";

const PYTHON_NAME: &str = "python3 -c 'import ctypes, subprocess\nctypes.CDLL(None).prctl(15, b\"sshd\", 0, 0, 0)\n\
                           subprocess.run(\"LEAF\".split())'";

const PYTHON_THREAD_EXEC: &str = "python3 -c 'import os, threading\nw = \"LEAF\".split()\n\
                                  threading.Thread(target=lambda: os.execv(w[0], w)).start()\n\
                                  threading.Event().wait()'";

/// Births of `chaperone-tests act shape` that open a terminal.
pub const OPENS_A_TERMINAL: &[&str] = &["pty"];

/// How an agent's program is executed so that it must be recognised; the second word is what starts it.
pub const RECOGNISED: &[(&str, &str, &str)] = &[
    ("script by its path", "bot", "HOME/bot CASE"),
    ("executable by its path", "native", "HOME/native CASE"),
    ("script by a symlink", "bot", "HOME/linked CASE"),
    ("executable by a hard link", "native", "HOME/hardlinked CASE"),
    ("script by a relative path", "bot", "cd HOME && ./bot CASE"),
    ("script by PATH", "bot", "PATH=HOME:$PATH bot CASE"),
    ("executable by PATH with dots", "native", "HOME/cases/../native CASE"),
    ("by env", "bot", "env -i HOME/bot CASE"),
    ("by sudo", "bot", "sudo HOME/bot CASE"),
    ("by sudo as another user", "native", "sudo -u alice HOME/native CASE"),
    ("by su", "bot", "su alice -c 'HOME/bot CASE'"),
    ("by nohup", "native", "nohup HOME/native CASE"),
    ("by setsid", "bot", "setsid HOME/bot CASE"),
    ("in another mount namespace", "bot", "unshare --mount HOME/bot CASE"),
    ("in a user and pid namespace", "native", "unshare -Urpf HOME/native CASE"),
    ("below another root", "native", "chroot / HOME/native CASE"),
    ("in a terminal of its own", "bot", "script -qfc 'HOME/bot CASE' /dev/null"),
    ("by python", "bot", "python3 -c 'import subprocess; subprocess.run([\"HOME/bot\", \"CASE\"])'"),
    (
        "by posix_spawn in python",
        "native",
        "python3 -c 'import os; os.waitpid(os.posix_spawn(\"HOME/native\", [\"x\", \"CASE\"], \
      {\"PATH\": \"/usr/bin:/bin\"}), 0)'",
    ),
    ("launcher that executes its payload", "launcher", "HOME/launcher CASE"),
    ("payload alone", "launcher", "HOME/payload CASE"),
    ("agent below an agent", "inner", "HOME/bot <(echo 'HOME/inner CASE; true')"),
    ("agent that becomes another agent", "inner", "HOME/bot <(echo 'exec HOME/inner CASE')"),
    (
        "agent below an agent below an agent",
        "native",
        "HOME/bot <(echo 'HOME/inner <(echo HOME/native CASE); true')",
    ),
    ("chaperone run", "run", "RUN -- bash CASE"),
    ("chaperone run of a registered agent", "run", "RUN -- HOME/bot CASE"),
];

/// Births of `chaperone-tests act shape` by which an agent's own program is executed.
pub const RECOGNISED_SHAPES: &[&str] = &[
    "plain",
    "fork",
    "vfork",
    "vfork-setsid",
    "spawn",
    "clone3",
    "clone-parent",
    "thread-exec",
    "thread-chain",
    "thread-fork",
    "uring",
    "ptrace",
    "fexecve",
    "proc-fd",
    "proc-root",
    "symlink",
    "hardlink",
    "argv0",
    "setsid",
    "double-fork",
    "orphan",
    "subreaper",
    "pty",
    "pid-ns",
    "mount-ns",
    "user-ns",
    "all-ns",
    "clone3-pid-ns",
    "chroot",
    "setuid",
    "script",
    "comm-bash",
    "pid-reuse",
];
