-- Steps may be skipped instead of failing the run, and run only on inputs that they have conditions for.

-- Functions that are wrapped move here under their own names, which their bodies use.
CREATE SCHEMA pgflow_wrapped;
GRANT USAGE ON SCHEMA pgflow_wrapped TO PUBLIC;

ALTER TABLE pgflow.steps
    ADD COLUMN required_input_pattern jsonb,
    ADD COLUMN forbidden_input_pattern jsonb,
    ADD COLUMN when_unmet text NOT NULL DEFAULT 'skip' CHECK (when_unmet IN ('fail', 'skip', 'skip-cascade')),
    ADD COLUMN when_exhausted text NOT NULL DEFAULT 'fail' CHECK (when_exhausted IN ('fail', 'skip', 'skip-cascade'));
ALTER TABLE pgflow.step_states
    ADD COLUMN skip_reason text CHECK (skip_reason IN ('condition_unmet', 'handler_failed', 'dependency_skipped')),
    ADD COLUMN skipped_at timestamptz,
    DROP CONSTRAINT status_is_valid,
    ADD CONSTRAINT status_is_valid CHECK (status IN ('created', 'started', 'completed', 'failed', 'skipped'));

ALTER FUNCTION pgflow.add_step(text, text, text[], integer, integer, integer, integer, text) SET SCHEMA pgflow_wrapped;
CREATE FUNCTION pgflow.add_step(
    flow_slug text, step_slug text, deps_slugs text[] DEFAULT '{}', max_attempts integer DEFAULT NULL,
    base_delay integer DEFAULT NULL, timeout integer DEFAULT NULL, start_delay integer DEFAULT NULL,
    step_type text DEFAULT 'single', required_input_pattern jsonb DEFAULT NULL,
    forbidden_input_pattern jsonb DEFAULT NULL, when_unmet text DEFAULT 'skip', when_exhausted text DEFAULT 'fail'
) RETURNS pgflow.steps LANGUAGE plpgsql AS $$
DECLARE
    added pgflow.steps;
BEGIN
    PERFORM pgflow_wrapped.add_step(
        add_step.flow_slug, add_step.step_slug, deps_slugs, max_attempts, base_delay, timeout, start_delay,
        add_step.step_type);
    UPDATE pgflow.steps AS step SET
        required_input_pattern = add_step.required_input_pattern,
        forbidden_input_pattern = add_step.forbidden_input_pattern,
        when_unmet = add_step.when_unmet,
        when_exhausted = add_step.when_exhausted
    WHERE step.flow_slug = add_step.flow_slug AND step.step_slug = add_step.step_slug
    RETURNING * INTO added;
    RETURN added;
END
$$;

CREATE OR REPLACE FUNCTION pgflow.flow_input_of(task pgflow.step_tasks) RETURNS jsonb LANGUAGE sql AS $$
    SELECT run.input
    FROM pgflow.runs AS run
    JOIN pgflow.steps AS step ON step.flow_slug = run.flow_slug AND step.step_slug = task.step_slug
    WHERE run.run_id = task.run_id AND step.step_type = 'single' AND step.deps_count = 0
$$;

CREATE OR REPLACE FUNCTION pgflow.claim_messages(flow_slug text, msg_ids bigint[], worker_id uuid)
RETURNS SETOF pgflow.step_tasks LANGUAGE sql AS $$
    UPDATE pgflow.step_tasks AS task
    SET status = 'started', attempts_count = attempts_count + 1, started_at = now(), last_worker_id = worker_id
    FROM pgflow.runs AS run, pgflow.step_states AS state
    WHERE task.flow_slug = claim_messages.flow_slug AND task.message_id = ANY (msg_ids) AND task.status = 'queued'
      AND run.run_id = task.run_id AND run.status = 'started'
      AND state.run_id = task.run_id AND state.step_slug = task.step_slug AND state.status = 'started'
    RETURNING task.*
$$;

CREATE FUNCTION pgflow.archive_step(run_id uuid, step_slug text) RETURNS void LANGUAGE sql AS $$
    SELECT pgmq.archive(task.flow_slug, task.message_id)
    FROM pgflow.step_tasks AS task
    WHERE task.run_id = archive_step.run_id AND task.step_slug = archive_step.step_slug
      AND task.status IN ('queued', 'started', 'failed')
$$;

CREATE FUNCTION pgflow.skip_step(run_id uuid, step_slug text, reason text, cascade boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    child record;
BEGIN
    UPDATE pgflow.step_states AS state
    SET status = 'skipped', skip_reason = reason, skipped_at = now(), remaining_tasks = NULL
    WHERE state.run_id = skip_step.run_id AND state.step_slug = skip_step.step_slug
      AND state.status IN ('created', 'started');
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM pgflow.archive_step(skip_step.run_id, skip_step.step_slug);
    UPDATE pgflow.runs AS run SET remaining_steps = remaining_steps - 1 WHERE run.run_id = skip_step.run_id;
    FOR child IN
        SELECT dep.step_slug, step.step_type
        FROM pgflow.runs AS run
        JOIN pgflow.deps AS dep ON dep.flow_slug = run.flow_slug AND dep.dep_slug = skip_step.step_slug
        JOIN pgflow.steps AS step ON step.flow_slug = dep.flow_slug AND step.step_slug = dep.step_slug
        WHERE run.run_id = skip_step.run_id
    LOOP
        IF cascade THEN
            PERFORM pgflow.skip_step(skip_step.run_id, child.step_slug, 'dependency_skipped', true);
        ELSE
            UPDATE pgflow.step_states AS state
            SET remaining_deps = remaining_deps - 1,
                initial_tasks = CASE child.step_type WHEN 'map' THEN 0 ELSE initial_tasks END
            WHERE state.run_id = skip_step.run_id AND state.step_slug = child.step_slug;
        END IF;
    END LOOP;
END
$$;

-- What comes late for a skipped step changes nothing. As a trigger, so that complete_task keeps the body that is known.
CREATE FUNCTION pgflow.is_late(run_id uuid, step_slug text) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (
        SELECT FROM pgflow.step_states AS state
        WHERE state.run_id = is_late.run_id AND state.step_slug = is_late.step_slug AND state.status = 'skipped'
    )
$$;
CREATE FUNCTION pgflow.archive_late(run_id uuid, step_slug text, task_index integer) RETURNS SETOF pgflow.step_tasks
LANGUAGE plpgsql AS $$
DECLARE
    late pgflow.step_tasks;
BEGIN
    SELECT task.* INTO late FROM pgflow.step_tasks AS task
    WHERE task.run_id = archive_late.run_id AND task.step_slug = archive_late.step_slug
      AND task.task_index = archive_late.task_index;
    PERFORM pgmq.archive(late.flow_slug, late.message_id);
    RETURN NEXT late;
END
$$;
CREATE FUNCTION pgflow.refuse_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pgflow.is_late(new.run_id, new.step_slug) THEN
        PERFORM pgflow.archive_late(new.run_id, new.step_slug, new.task_index);
        RETURN NULL;
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER refuse_late BEFORE UPDATE OF status ON pgflow.step_tasks
    FOR EACH ROW WHEN (new.status = 'completed' AND old.status = 'started') EXECUTE FUNCTION pgflow.refuse_late();

-- Steps that are ready although a condition is not met, in order: of roots the run's input is compared, of others the
-- outputs of what was not skipped.
CREATE FUNCTION pgflow.unmet_steps(run_id uuid) RETURNS SETOF pgflow.steps LANGUAGE sql AS $$
    SELECT step.*
    FROM pgflow.runs AS run
    JOIN pgflow.step_states AS state ON state.run_id = run.run_id
    JOIN pgflow.steps AS step ON step.flow_slug = state.flow_slug AND step.step_slug = state.step_slug
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(dep.dep_slug, earlier.output) AS outputs
        FROM pgflow.deps AS dep
        JOIN pgflow.step_states AS earlier ON earlier.run_id = run.run_id AND earlier.step_slug = dep.dep_slug
        WHERE dep.flow_slug = step.flow_slug AND dep.step_slug = step.step_slug AND earlier.status = 'completed'
    ) AS dependencies
    CROSS JOIN LATERAL (
        SELECT CASE step.deps_count WHEN 0 THEN run.input ELSE coalesce(dependencies.outputs, '{}') END AS value
    ) AS given
    WHERE run.run_id = unmet_steps.run_id AND state.status = 'created' AND state.remaining_deps = 0
      AND NOT (coalesce(given.value @> step.required_input_pattern, true)
               AND coalesce(NOT given.value @> step.forbidden_input_pattern, true))
    ORDER BY step.step_index
$$;

CREATE FUNCTION pgflow.fail_unmet(run_id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pgflow.step_states AS state
    SET status = 'failed', failed_at = now(), error_message = 'Condition not met'
    WHERE state.run_id = fail_unmet.run_id AND state.step_slug = (
        SELECT unmet.step_slug FROM pgflow.unmet_steps(fail_unmet.run_id) AS unmet WHERE unmet.when_unmet = 'fail' LIMIT 1);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM pgmq.archive(task.flow_slug, task.message_id)
    FROM pgflow.step_tasks AS task
    WHERE task.run_id = fail_unmet.run_id AND task.status IN ('queued', 'started');
    UPDATE pgflow.runs AS run SET status = 'failed', failed_at = now() WHERE run.run_id = fail_unmet.run_id;
    RETURN true;
END
$$;

-- Skipping a step can make others ready, which are then looked at.
CREATE FUNCTION pgflow.resolve_conditions(run_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    unmet text[];
BEGIN
    WHILE NOT pgflow.fail_unmet(resolve_conditions.run_id) LOOP
        unmet := ARRAY(
            SELECT step.step_slug FROM pgflow.unmet_steps(resolve_conditions.run_id) AS step WHERE step.when_unmet = 'skip');
        PERFORM pgflow.skip_step(resolve_conditions.run_id, slug, 'condition_unmet', false) FROM unnest(unmet) AS slug;
        PERFORM pgflow.skip_step(resolve_conditions.run_id, step.step_slug, 'condition_unmet', true)
        FROM pgflow.unmet_steps(resolve_conditions.run_id) AS step WHERE step.when_unmet = 'skip-cascade';
        EXIT WHEN unmet = '{}';
    END LOOP;
END
$$;

-- Conditions are looked at before steps without tasks are completed, and not again after it: what becomes ready by
-- that starts in any case.
ALTER FUNCTION pgflow.cascade_complete_taskless_steps(uuid) SET SCHEMA pgflow_wrapped;
CREATE FUNCTION pgflow.cascade_complete_taskless_steps(run_id uuid) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgflow.resolve_conditions(cascade_complete_taskless_steps.run_id);
    IF EXISTS (
        SELECT FROM pgflow.runs AS run
        WHERE run.run_id = cascade_complete_taskless_steps.run_id AND run.status = 'failed'
    ) THEN
        RETURN 0;
    END IF;
    RETURN pgflow_wrapped.cascade_complete_taskless_steps(cascade_complete_taskless_steps.run_id);
END
$$;

ALTER FUNCTION pgflow.fail_task(uuid, text, integer, text) SET SCHEMA pgflow_wrapped;
CREATE FUNCTION pgflow.fail_task(run_id uuid, step_slug text, task_index integer, error_message text)
RETURNS SETOF pgflow.step_tasks LANGUAGE plpgsql AS $$
DECLARE
    policy text;
BEGIN
    PERFORM FROM pgflow.runs AS run WHERE run.run_id = fail_task.run_id FOR UPDATE;
    IF pgflow.is_late(fail_task.run_id, fail_task.step_slug) THEN
        RETURN QUERY SELECT task.* FROM pgflow.archive_late(fail_task.run_id, fail_task.step_slug, fail_task.task_index) AS task;
        RETURN;
    END IF;
    SELECT step.when_exhausted INTO policy
    FROM pgflow.step_tasks AS task
    JOIN pgflow.step_states AS state ON state.run_id = task.run_id AND state.step_slug = task.step_slug
    JOIN pgflow.steps AS step ON step.flow_slug = task.flow_slug AND step.step_slug = task.step_slug
    JOIN pgflow.flows AS flow ON flow.flow_slug = task.flow_slug
    WHERE task.run_id = fail_task.run_id AND task.step_slug = fail_task.step_slug
      AND task.task_index = fail_task.task_index AND task.status = 'started' AND state.status = 'started'
      AND task.attempts_count >= coalesce(step.opt_max_attempts, flow.opt_max_attempts);
    IF coalesce(policy, 'fail') = 'fail' THEN
        RETURN QUERY SELECT * FROM pgflow_wrapped.fail_task(
            fail_task.run_id, fail_task.step_slug, fail_task.task_index, fail_task.error_message);
        RETURN;
    END IF;
    UPDATE pgflow.step_tasks AS task
    SET status = 'failed', failed_at = now(), error_message = fail_task.error_message
    WHERE task.run_id = fail_task.run_id AND task.step_slug = fail_task.step_slug
      AND task.task_index = fail_task.task_index;
    PERFORM pgflow.skip_step(fail_task.run_id, fail_task.step_slug, 'handler_failed', policy = 'skip-cascade');
    UPDATE pgflow.step_states AS state SET error_message = fail_task.error_message
    WHERE state.run_id = fail_task.run_id AND state.step_slug = fail_task.step_slug;
    PERFORM pgflow.cascade_complete_taskless_steps(fail_task.run_id);
    PERFORM pgflow.start_ready_steps(fail_task.run_id);
    PERFORM pgflow.maybe_complete_run(fail_task.run_id);
    RETURN QUERY SELECT * FROM pgflow.step_tasks AS task
        WHERE task.run_id = fail_task.run_id AND task.step_slug = fail_task.step_slug
          AND task.task_index = fail_task.task_index;
END
$$;

-- Conditions count in a comparison. A pattern is an object that says whether there is one, and then its value.
CREATE OR REPLACE FUNCTION pgflow.compared_step(step jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'slug', step -> 'slug',
        'stepType', step -> 'stepType',
        'dependencies', (
            SELECT coalesce(jsonb_agg(dep ORDER BY dep COLLATE "C"), '[]')
            FROM jsonb_array_elements_text(step -> 'dependencies') AS dep),
        'conditions', jsonb_build_array(
            step -> 'requiredInputPattern', step -> 'forbiddenInputPattern', step -> 'whenUnmet', step -> 'whenExhausted')
    )
$$;

CREATE FUNCTION pgflow.shaped_pattern(pattern jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('defined', pattern IS NOT NULL)
        || CASE WHEN pattern IS NULL THEN '{}' ELSE jsonb_build_object('value', pattern) END
$$;

CREATE OR REPLACE FUNCTION pgflow.stored_steps(slug text) RETURNS SETOF jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'slug', step.step_slug,
        'stepType', step.step_type,
        'dependencies', ARRAY(
            SELECT dep.dep_slug FROM pgflow.deps AS dep
            WHERE dep.flow_slug = step.flow_slug AND dep.step_slug = step.step_slug),
        'requiredInputPattern', pgflow.shaped_pattern(step.required_input_pattern),
        'forbiddenInputPattern', pgflow.shaped_pattern(step.forbidden_input_pattern),
        'whenUnmet', step.when_unmet,
        'whenExhausted', step.when_exhausted
    )
    FROM pgflow.steps AS step WHERE step.flow_slug = stored_steps.slug ORDER BY step.step_index
$$;

CREATE OR REPLACE FUNCTION pgflow.add_shaped_step(slug text, step jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT FROM pgflow.add_step(
        flow_slug => slug,
        step_slug => step ->> 'slug',
        deps_slugs => ARRAY(SELECT jsonb_array_elements_text(step -> 'dependencies')),
        max_attempts => (step #>> '{options,maxAttempts}')::integer,
        base_delay => (step #>> '{options,baseDelay}')::integer,
        timeout => (step #>> '{options,timeout}')::integer,
        start_delay => (step #>> '{options,startDelay}')::integer,
        step_type => step ->> 'stepType',
        required_input_pattern => step #> '{requiredInputPattern,value}',
        forbidden_input_pattern => step #> '{forbiddenInputPattern,value}',
        when_unmet => coalesce(step ->> 'whenUnmet', 'skip'),
        when_exhausted => coalesce(step ->> 'whenExhausted', 'fail'))
$$;
