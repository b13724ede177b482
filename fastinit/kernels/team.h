/* A team of threads that runs one loop together: its members take tasks by number and wait for each
 * other at barriers.
 *
 * A waiting thread spins for some microseconds, the expected difference between the members. After
 * that it yields its core at every turn, so that threads with work proceed if the threads outnumber
 * the cores.
 */
#ifndef FASTINIT_TEAM_H
#define FASTINIT_TEAM_H

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
#elif defined(__aarch64__)
/* YIELD takes no time on most processors; ISB takes about as long as PAUSE on x86. */
#define relax() __asm__ __volatile__("isb" ::: "memory")
#else
#define relax() ((void)0)
#endif
#define yield_core() sched_yield()
#endif

enum { SPINS = 200 };

typedef struct {
    long size;          /* set before the first member arrives */
    counter task;       /* the next task of this phase */
    counter arrived, phase;
    counter nonfinite;  /* 1 if an updated parameter of this iteration is not a finite number */
    long job;           /* set by one member between team_arrive and team_release, as is `leaving` */
    long leaving;
} Team;

/* The number of a task that no other member has; counted from 0 in each phase. */
static inline long team_take(Team *team)
{
    return team->size == 1 ? team->task++ : counter_next(&team->task);
}

/* Wait for all others. The last member to arrive returns 1, does what only one may do, and must call
 * team_release; the others return 0 after that. */
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

/* Whether others have still to arrive, before this member does; if so, let some time pass. */
static inline int team_waits(Team *team, long turns)
{
    if (team->size == 1 || counter_load(&team->arrived) + 1 >= team->size)
        return 0;
    if (turns < SPINS)
        relax();
    else
        yield_core();
    return 1;
}

static inline void team_release(Team *team)
{
    if (team->size == 1) {
        team->task = 0;
        return;
    }
    counter_store(&team->task, 0);
    counter_store(&team->arrived, 0);
    counter_store(&team->phase, counter_load(&team->phase) + 1);
}

#endif
