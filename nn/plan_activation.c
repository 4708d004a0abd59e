/* SPDX-License-Identifier: Apache-2.0
 * plan_activation: the rows relu, gelu, ... where no op in front could absorb them.
 */
#include "plan.h"

static nn_activation act_of(const plan_op *op)
{
    return op->row->layer->activation;
}

static void forward_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    op->plan->kernels->activate(act_of(op), op->out->precision == AT_BF16, op->in[0]->data,
                                op->out->data, begin, end);
}

typedef struct padding_work {
    const plan_op *op;
    nn_view view;
} padding_work;

static void padding_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const padding_work *w = context;
    w->op->plan->kernels->clear_padding(&w->view, w->op->out->data, begin, end);
}

void plan_activation_padding(const plan_op *op, nn_activation act)
{
    padding_work w = {op, plan_view(op->plan, op->out)};
    if (act == NN_SIGMOID && !w.view.grouped && w.view.channels % w.view.lanes)
        plan_parallel(op->plan, w.view.n, padding_part, &w);
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    plan_parallel_bytes(op->plan, plan_tensor_elements(op->plan, op->out),
                        plan_tensor_bytes(op->plan, op->out), forward_part, op);
    plan_activation_padding(op, act_of(op));
    return 0;
}

bool plan_activation_from_output(nn_activation act)
{
    return act == NN_RELU || act == NN_SIGMOID || act == NN_TANH;
}

/* dy times the derivative at `value`, the activation's output or its input. */
typedef struct back_work {
    const plan_op *op;
    nn_activation act;
    const void *value;
    void *dx;
} back_work;

static void back_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const back_work *w = context;
    w->op->plan->kernels->activate_back(w->act, w->op->out->precision == AT_BF16, w->value,
                                        w->op->out->grad, w->dx, begin, end);
}

static void run_back(back_work w)
{
    const plan_op *op = w.op;
    plan_parallel_bytes(op->plan, plan_tensor_elements(op->plan, op->out),
                        plan_tensor_bytes(op->plan, op->out), back_part, &w);
}

void plan_activation_back(const plan_op *op)
{
    run_back((back_work){op, op->activation, op->out->data, op->out->grad});
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    const void *value = op->keeps_output ? op->out->data : op->in[0]->data;
    run_back((back_work){op, act_of(op), value, op->in_grad[0]});
    return 0;
}

int plan_activation_build(plan_op *op, at_error *err)
{
    (void)err;
    plan_follow(op);
    op->grad_in_place = true;
    op->keeps_output = plan_activation_from_output(act_of(op));
    op->keeps_input = !op->keeps_output;
    op->forward = forward;
    op->backward = op->in[0]->wants_grad ? backward : NULL;
    return 0;
}

double plan_activation_bytes(const plan_op *op)
{
    double passes = op->in[0]->wants_grad ? 5 : 2; /* x, y; then one of them, dy, dx */
    return passes * (double)plan_tensor_bytes(op->plan, op->out);
}
