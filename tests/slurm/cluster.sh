#!/usr/bin/env bash
# A SLURM cluster of one node, this machine, for tests: real munged, slurmctld and slurmd.
#
#   export SLURM_CONF=$(bash tests/slurm/cluster.sh start FOLDER)   # sinfo, sbatch ... now work
#   bash tests/slurm/cluster.sh stop FOLDER
#
# Debian: apt-get install slurmctld slurmd slurm-client munge. Runs as any user, with free ports on
# the loopback device, and keeps everything in FOLDER; nothing in /etc is read or changed. Starting
# it again starts what is not running. There is no accounting, so no sacct.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../script/setup_env.sh"
help_if_asked "$@"

if [ "$#" -ne 2 ] || { [ "$1" != start ] && [ "$1" != stop ]; }; then
    echo "usage: bash tests/slurm/cluster.sh start|stop FOLDER" >&2
    exit 2
fi
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF="$folder/slurm.conf"
PATH="$PATH:/usr/sbin:/sbin"

running() { # running NAME: is the daemon of that pid file alive?
    [ -s "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null
}

if [ "$1" = stop ]; then
    if running slurmctld; then
        scancel --user="$(id -un)" 2>/dev/null || true
    fi
    for daemon in slurmd slurmctld munged; do
        if running "$daemon"; then
            pid=$(cat "$folder/$daemon.pid")
            kill "$pid"
            for _ in $(seq 100); do
                kill -0 "$pid" 2>/dev/null || break
                sleep 0.1
            done
            kill -KILL "$pid" 2>/dev/null || true
        fi
        rm -f "$folder/$daemon.pid"
    done
    exit 0
fi

for program in munged slurmctld slurmd sinfo; do
    if ! command -v "$program" >/dev/null; then
        echo "$program is not installed (Debian: slurmctld slurmd slurm-client munge)" >&2
        exit 1
    fi
done

if ! running munged; then
    if [ ! -f "$folder/munge.key" ]; then
        (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    fi
    # --force: a folder below /tmp may be written by others, which is nothing to worry about here.
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munge.seed" 2>>"$folder/munged.err"
fi

if [ ! -f "$SLURM_CONF" ]; then
    ports=$(python3 - <<'PYTHON'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in held))
PYTHON
    )
    cores=$(env -u OMP_NUM_THREADS nproc) # which would say what that variable says
    mkdir -p "$folder/state" "$folder/spool"
    cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports% *}
SlurmdPort=${ports#* }
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# A requeued job waits until its credential has expired: by default two minutes.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# Without cgroups, which a container may not have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,bf_interval=1,sched_interval=2
JobRequeue=1
KillWait=10
MinJobAge=300
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cores RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=5 State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF State=UP
CONF
fi

running slurmctld || slurmctld -f "$SLURM_CONF" >>"$folder/slurmctld.err" 2>&1
running slurmd || slurmd -f "$SLURM_CONF" >>"$folder/slurmd.err" 2>&1
for _ in $(seq 100); do
    if sinfo --noheader --format=%t 2>/dev/null | grep -qE 'idle|mix|alloc'; then
        echo "$SLURM_CONF"
        exit 0
    fi
    sleep 0.2
done
echo "the node does not come up; see $folder/slurmctld.log and $folder/slurmd.log" >&2
exit 1
