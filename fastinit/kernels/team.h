/* A team of threads that runs one loop together: they take tasks by number, and meet at barriers.
 *
 * Who waits spins for some microseconds, as long as a phase is expected to differ, and then yields
 * its core at every turn: with more threads than cores, those with work get on.
 */
#ifndef FASTINIT_TEAM_H
#define FASTINIT_TEAM_H

#include <limits.h>

#if defined(_MSC_VER)
#include <intrin.h>
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
typedef volatile long counter;
#define counter_load(c) _InterlockedOr((c), 0)
#define counter_store(c, x) _InterlockedExchange((c), (x))
#define counter_next(c) _InterlockedExchangeAdd((c), 1)
#define relax() YieldProcessor()
#define yield_core() SwitchToThread()
#else
#include <sched.h>
typedef long counter;
#define counter_load(c) __atomic_load_n((c), __ATOMIC_ACQUIRE)
#define counter_store(c, x) __atomic_store_n((c), (x), __ATOMIC_RELEASE)
#define counter_next(c) __atomic_fetch_add((c), 1, __ATOMIC_ACQ_REL)
#if defined(__x86_64__) || defined(__i386__)
#define relax() __builtin_ia32_pause()
#else
#define relax() ((void)0)
#endif
#define yield_core() sched_yield()
#endif

enum { SPINS = 200 };

typedef struct {
    long size; /* set before the first thread arrives, or by a thread that has yet to arrive */
    counter task, arrived, phase;
} Team;

/* The number of a task that nobody else has; from 0, in each phase. */
static inline long team_take(Team *team)
{
    return team->size == 1 ? team->task++ : counter_next(&team->task);
}

/* Leave no task to be taken. */
static inline void team_dismiss(Team *team)
{
    counter_store(&team->task, LONG_MAX / 2);
}

/* Wait for all others. Who arrives last is told so, and must release them when it is done with
 * what only one may do; everybody else returns after that. */
static inline int team_arrive(Team *team)
{
    long phase, turns = 0;
    if (team->size == 1)
        return 1;
    phase = counter_load(&team->phase);
    if (counter_next(&team->arrived) + 1 == team->size)
        return 1;
    while (counter_load(&team->phase) == phase)
        if (++turns < SPINS)
            relax();
        else
            yield_core();
    return 0;
}

static inline void team_release(Team *team)
{
    team->task = 0;
    team->arrived = 0;
    counter_store(&team->phase, team->phase + 1);
}

#endif
