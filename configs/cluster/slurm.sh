#!/bin/bash
# dtrain on several hosts under Slurm: one task a node, which find each other in SLURM_STEP_NODELIST (port 8888).
#
#   sbatch slurm.sh --config resnet50
#
# To fit: the lines below, and that only nodes of the job reach port 8888 (cluster.trustedNetwork; docs/cluster.md). The runs must lie where
# node 0 can write when it is another node after a requeue.
#SBATCH --job-name=dtrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@180

# srun ends with the largest exit code of its tasks. One that would end so again gets 100 more: it then counts for more than the 12 of the others,
# which lose that host. The wrapper outlives the SIGTERM that goes to the whole task.
task='trap : TERM; "$@"; code=$?; case $code in [1-9] | 10 | 11 | 13) exit $((code + 100)) ;; esac; exit $code'

# Three minutes before the end of its time, and when it is preempted, every task gets SIGTERM: all stop after the same step, with a checkpoint.
srun --kill-on-bad-exit=0 bash -c "$task" task \
  "${DTRAIN:-dtrain}" train "$@" --run-dir "${RUN_DIR:-runs/$SLURM_JOB_NAME}" --resume cluster.trustedNetwork=true
code=$?

# 75: stopped on request; 12: a host was lost. Both go on from the checkpoint in a new allocation; anything else would end so again.
case $code in
  75 | 12) scontrol requeue "$SLURM_JOB_ID" ;;
  10[1-9] | 11[013]) code=$((code - 100)) ;;
esac
exit $code
