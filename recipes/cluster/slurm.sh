#!/bin/bash
# One run on several machines of a Slurm cluster, from the folder of this project, where `make setup` has been run:
#
#     sbatch recipes/cluster/slurm.sh -m recipes.grpo --task gsm8k
#     sbatch --nodes=4 --gpus-per-node=8 recipes/cluster/slurm.sh -m recipes.ppo --task gsm8k --max_steps 500
#
# The folder must be on a file system that all nodes share, and so must --output_dir: the first process writes there,
# the others read its checkpoints. Where nodes have no network, load the model and the data set once before.
#
#SBATCH --job-name=trl-recipes
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --output=slurm-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@600
set -euo pipefail
export HEAD PORT PROCESSES
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
PORT=$((10000 + SLURM_JOB_ID % 20000))
PROCESSES=$((SLURM_JOB_NUM_NODES * ${SLURM_GPUS_ON_NODE:-1}))

# Ten minutes before --time is over, which must be longer (USR1), and where a job of more weight takes the nodes (TERM,
# from Slurm itself), the run ends its step and saves it. Then the job waits in line again, and goes on from there.
again=
trap 'again=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

# shellcheck disable=SC2016  # the node's own shell writes its rank
srun --kill-on-bad-exit=1 bash -c 'exec .venv/bin/python -m recipes.launch \
    --num_machines "$SLURM_JOB_NUM_NODES" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$HEAD" --main_process_port "$PORT" --num_processes "$PROCESSES" "$@"' launch "$@" &
code=0
wait $! || code=$?
if [ "$again" ]; then
    wait || true
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
