# SPDX-License-Identifier: Apache-2.0
# A one-node Slurm on the loopback address for tests: munged, slurmctld, slurmd of Debian's slurm-wlm. Needs root.

need_slurm() {
    for program in slurmctld slurmd munged sbatch; do
        command -v "$program" >/dev/null || { echo "skipped: $program is not installed (scripts/setup --tests)"; exit 77; }
    done
    [ "$(id -u)" = 0 ] || { echo "skipped: slurmd needs root"; exit 77; }
}

slurm_munge() {
    mkdir -p /run/munge /var/log/munge /var/lib/munge
    chown munge: /run/munge /var/log/munge /var/lib/munge
    munge -n >/dev/null 2>&1 && return
    [ -f /etc/munge/munge.key ] || su -s /bin/sh munge -c /usr/sbin/mungekey
    slurm_daemon "$1" munged --reuid munge --regid munge --init-groups -- munged --foreground
    for _ in $(seq 50); do
        munge -n >/dev/null 2>&1 && return
        sleep 0.1
    done
}

# Starts a daemon in the foreground's way: it ends with this script, also where the script is killed.
slurm_daemon() {
    local dir=$1 name=$2
    shift 2
    setpriv --pdeathsig TERM "$@" >> "$dir/log/$name.out" 2>&1 &
    echo $! > "$dir/$name.pid"
}

slurm_start() {
    local dir=$1 port=$((20000 + $$ % 12000)) # below those that the system gives away
    mkdir -p "$dir"/{state,spool,log,tmp}
    slurm_munge "$dir"
    cat > "$dir/slurm.conf" <<CONF
ClusterName=atoll
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmctldPidFile=$dir/slurmctld.own.pid
SlurmdPidFile=$dir/slurmd.own.pid
SlurmdSpoolDir=$dir/spool
TmpFS=$dir/tmp
StateSaveLocation=$dir/state
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
MpiDefault=pmix
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$dir/slurm.conf
    slurm_daemon "$dir" slurmctld -- slurmctld -D
    slurm_daemon "$dir" slurmd -- slurmd -D
    for _ in $(seq 120); do
        [ "$(sinfo -h -o %t 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    echo "the node did not become idle:"
    tail "$dir"/log/*
    return 1
}

slurm_stop() {
    local pid
    for name in slurmd slurmctld munged; do
        [ -f "$1/$name.pid" ] || continue
        pid=$(cat "$1/$name.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
}
