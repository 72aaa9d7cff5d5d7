#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, for tests: cluster.sh start | stop. Root; Debian's packages are installed if need be.
set -euo pipefail
folder=/tmp/test-slurm
nodes=(node-a node-b)

install_packages() {
    command -v slurmctld slurmd munged >/dev/null && return
    timeout 120 apt-get update -q # no network, no endless wait
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -q --no-install-recommends slurm-wlm munge
}

configuration() { # Two slurmd on one machine differ by their names and ports.
    cat <<CONF
ClusterName=test
SlurmctldHost=$(hostname)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
ReturnToService=2
JobRequeue=1
KillWait=3
MinJobAge=600
SchedulerParameters=batch_sched_delay=1,sched_interval=2
InactiveLimit=0
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
NodeName=node-a NodeAddr=127.0.0.1 Port=17003 CPUs=1 State=UNKNOWN
NodeName=node-b NodeAddr=127.0.0.1 Port=17004 CPUs=1 State=UNKNOWN
PartitionName=test Nodes=node-a,node-b Default=YES MaxTime=60 State=UP OverSubscribe=FORCE:8
CONF
}

start() {
    install_packages
    if sinfo >/dev/null 2>&1; then
        echo 'the cluster is up'
        return
    fi
    mkdir -p $folder/state
    for node in "${nodes[@]}"; do
        mkdir -p "$folder/spool-$node"
        grep -q "$node" /etc/hosts || echo "127.0.0.1 $node" >>/etc/hosts
    done
    grep -qw "$(hostname)" /etc/hosts || echo "127.0.0.1 $(hostname)" >>/etc/hosts
    mkdir -p /etc/slurm /run/munge /var/log/munge /var/lib/munge
    configuration >/etc/slurm/slurm.conf
    printf 'CgroupPlugin=cgroup/v1\n' >/etc/slurm/cgroup.conf
    if ! munge -n >/dev/null 2>&1; then
        chown munge: /run/munge /var/log/munge /var/lib/munge /etc/munge /etc/munge/munge.key
        chmod 755 /run/munge
        if command -v runuser >/dev/null; then runuser -u munge -- munged --force; else su munge -s /bin/sh -c 'munged --force'; fi
    fi
    slurmctld
    for node in "${nodes[@]}"; do slurmd -N "$node"; done
    local until=$((SECONDS + 120))
    while [ $SECONDS -lt $until ]; do
        if [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = 2 ] && timeout 30 srun --nodes=2 true; then
            echo 'the cluster is up'
            return
        fi
        sleep 1
    done
    echo 'the cluster did not come up:' >&2
    sinfo >&2 || true
    tail -n 20 $folder/*.log >&2
    exit 1
}

stop() {
    [ -d $folder ] || return 0 # whatever Slurm there is, it is not ours
    scancel --me 2>/dev/null || true
    scontrol shutdown 2>/dev/null || true
    sleep 2
    rm -rf $folder
}

case "${1:-}" in
start | stop) "$1" ;;
*) echo "usage: $0 start | stop" >&2 && exit 2 ;;
esac
