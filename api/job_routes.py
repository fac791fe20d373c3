"""The paths of jobs."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from api import transcript_forms
from api.auth import authenticate, caller
from api.credit_schemas import DryRunQuery, QuoteBody, ReceiptBody
from api.idempotency import once_by_id, once_of, take_once
from api.model_choice import chosen_model
from api.own_ids import resolve_own_id
from api.preferences import preferred_wait_s
from api.problems import ERROR_RESPONSES
from api.rate_limits import count_lines
from api.request_schemas import ImagePageQuery, JobPageQuery, JobPath, OwnIdPath, TranscriptQuery, WaitQuery
from api.schemas import DeletedBody, ImageBody, ImageListBody, JobBody, JobListBody
from api.submission import read_submission
from api.waiting import job_waits
from core import intake, jobs
from core.database import looking, transaction
from core.idempotency import Earlier, Once
from core.image_views import image_views
from core.job_lists import JobFilter, list_jobs
from core.job_views import JobView, image_page, job_reading, job_view
from core.new_jobs import NewJob
from core.quotes import quote
from core.receipts import receipt
from core.retries import retry_of
from core.states import Status

job_routes = APIBlueprint(
    "jobs",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="Jobs")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
job_routes.before_request(authenticate)
job_routes.before_request(resolve_own_id)

#: Seconds after which a look at a job that has not ended is worth it.
_POLL_AFTER_S = 1


@job_routes.post("", responses={200: QuoteBody, 202: JobBody})
def submit_job(query: DryRunQuery) -> Response:
    """Submit a job, or with `dry_run=1` learn what it would cost.

    Images come as files of a form (field `image`, once or many times), as JSON, or one as the body itself; then its
    options are query parameters. The answer is the job; `Location` tells where to poll it. With `Prefer: wait=N` it
    comes when the job has ended (then with status 200), or after N seconds.
    """
    if query.dry_run:
        return _quote(read_submission(request))
    return _submit(once_of(request))


@job_routes.put("/<job_id>", responses={200: QuoteBody, 202: JobBody})
def put_job(path: OwnIdPath, query: DryRunQuery) -> Response:
    """Submit a job under an id of your own, in the forms of `POST`; sent again, it answers with the job as it is now.

    The id stands for the job's own in every path of jobs, as long as the job exists.
    """
    if query.dry_run:
        return _quote(read_submission(request))
    return _submit(once_by_id(request, path.job_id))


def _submit(once: Once | None) -> Response:
    return _taken_once(once, lambda: read_submission(request))


def _taken_once(once: Once | None, read: Callable[[], NewJob]) -> Response:
    def take() -> JobView:
        new = read()
        count_lines(caller(), new.most_lines)
        return intake.submit(caller(), new, once=once)

    taken = take_once(caller().account_id, once, take)
    return _replay(taken) if isinstance(taken, Earlier) else _submitted(taken)


def _replay(earlier: Earlier) -> Response:
    answer = _job(earlier.job_id)
    answer.status_code = earlier.status_code
    answer.headers["Location"] = f"/v1/jobs/{earlier.job_id}"
    answer.headers["Idempotent-Replayed"] = "true"
    return answer


@job_routes.get("", responses={200: JobListBody})
def list_own_jobs(query: JobPageQuery) -> Response:
    """List your jobs, newest first, without their images.

    `status` may be given several times; `metadata[name]=value` finds the jobs that carry this pair.
    """
    with looking() as connection:
        found = list_jobs(
            connection,
            caller(),
            JobFilter(
                statuses=query.status,
                created_after=query.created_after,
                created_before=query.created_before,
                metadata=query.metadata(),
            ),
            before=query.after,
            most=query.limit + 1,
        )
    return _json(JobListBody.cut(found, limit=query.limit, render=JobBody.of, cursor=lambda job: job.id))


@job_routes.get("/<job_id>", responses={200: JobBody, 304: None})
def get_job(path: JobPath, query: WaitQuery) -> Response:
    """Look at a job, or wait for it.

    With `wait`, the answer comes when the job has ended, or with `If-None-Match` when it has changed; after so many
    seconds it comes in any case, with the job as it then is.
    """
    known = request.if_none_match
    job_waits().wait(
        caller(),
        path.job_id,
        timeout_s=query.wait,
        done=(lambda version, _: not known.contains_weak(str(version))) if known else None,
    )
    answer = _job(path.job_id)
    answer.make_conditional(request)
    return answer


@job_routes.get("/<job_id>/images", responses={200: ImageListBody})
def list_images(path: JobPath, query: ImagePageQuery) -> Response:
    """List a job's images in order, with what was read in them."""
    with looking() as connection:
        found = image_page(connection, caller(), path.job_id, after=query.after, most=query.limit + 1)
    return _json(
        ImageListBody.cut(found, limit=query.limit, render=ImageBody.of, cursor=lambda image: str(image.index))
    )


@job_routes.post("/<job_id>/cancel", responses={200: JobBody})
def cancel_job(path: JobPath) -> Response:
    """Cancel a job: what has not been read ends now, free; what was read stays charged and readable."""
    jobs.cancel(caller(), path.job_id)
    return _job(path.job_id)


@job_routes.post("/<job_id>/retry", responses={202: JobBody})
def retry_job(path: JobPath) -> Response:
    """Submit a new job with those images of an ended job that were not read; only what is then read is charged."""
    once = once_of(request)
    return _taken_once(once, lambda: retry_of(caller(), path.job_id, choose_model=_still_served))


def _still_served(model: str, beams: int) -> str:
    return chosen_model(model, beams=beams)


@job_routes.delete("/<job_id>", responses={200: DeletedBody})
def delete_job(path: JobPath) -> Response:
    """Delete a job's images and text for good, canceling it first if it runs."""
    jobs.delete_job(caller(), path.job_id)
    return _json(DeletedBody(id=path.job_id))


@job_routes.get("/<job_id>/transcript", responses={200: {"content": transcript_forms.CONTENT}})
def get_transcript(path: JobPath, query: TranscriptQuery) -> Response:
    """Get a job's text so far.

    `txt` has a row a line, `json` every image with its lines, `tsv` a table of the lines, `hocr` a page for each image.
    `alto` (ALTO 4) and `page` (PAGE-XML 2019) are a document for each image: of several, in a zip archive.
    """
    with looking() as connection:
        job = job_reading(connection, caller(), path.job_id)
        images = image_views(connection, job.id)
    return transcript_forms.transcript_in(query.format, job, images)


@job_routes.get("/<job_id>/receipt", responses={200: ReceiptBody})
def get_receipt(path: JobPath) -> Response:
    """Get what a job cost, entry by entry; it stays when the job is deleted."""
    with looking() as connection:
        return _json(ReceiptBody.of(receipt(connection, caller(), path.job_id)))


def _quote(new: NewJob) -> Response:
    with transaction() as connection:
        priced = quote(
            connection,
            caller(),
            [image.header for image in new.images],
            model=new.model,
            mode=new.mode,
            priority=new.priority,
            max_lines=new.max_lines,
            beams=new.reading.beams,
        )
    return _json(QuoteBody.of(priced))


def _submitted(job: JobView) -> Response:
    wait_s = preferred_wait_s(request.headers.get("Prefer", ""))
    waited = wait_s is not None and job_waits().wait(caller(), job.id, timeout_s=wait_s)
    if waited:
        job = _view(job.id)
    answer = _rendered(job)
    answer.status_code = HTTPStatus.OK if waited and job.status.terminal else HTTPStatus.ACCEPTED
    answer.headers["Location"] = f"/v1/jobs/{job.id}"
    if waited:
        answer.headers["Preference-Applied"] = f"wait={wait_s}"
    return answer


def _job(job_id: str) -> Response:
    return _rendered(_view(job_id))


def _view(job_id: str) -> JobView:
    with looking() as connection:
        return job_view(connection, caller(), job_id)


def _rendered(job: JobView) -> Response:
    answer = _json(JobBody.of(job))
    answer.set_etag(str(job.version))
    if job.status in (Status.QUEUED, Status.RUNNING):
        answer.headers["Retry-After"] = str(_POLL_AFTER_S)
    return answer


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
