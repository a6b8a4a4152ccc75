package openai

import (
	"slices"
	"strings"
)

// unguarded are the parts of the API that are not read, and what to do. The first
// entry whose prefix fits explains a path.
var unguarded = []struct{ prefix, why string }{
	{"/responses/", "An answer that is fetched later, its items and a background answer's events would come past the guard. Ask for answers without background, and keep what POST /v1/responses gave."},
	{"/conversations", "Items that are kept at the provider enter later requests unread. Send the conversation with each request, or with previous_response_id of answers that passed here."},
	{"/realtime", "Realtime sessions talk over WebSocket or WebRTC, which Guardbook does not read. Use /v1/responses or /v1/chat/completions with streaming."},
	{"/batches", "A batch's requests lie in a file that Guardbook does not see. Send the requests one by one to their own endpoints."},
	{"/files", "Files are stored at the provider and used later by their id, unread. Send text in the request itself."},
	{"/uploads", "Files are stored at the provider and used later by their id, unread. Send text in the request itself."},
	{"/vector_stores", "What a vector store holds enters answers by way of file_search, unread."},
	{"/containers", "Files of a container are used by code that runs at the provider, unread."},
	{"/assistants", "Assistants keep instructions, tools and threads at the provider and run tools there. Use /v1/responses."},
	{"/threads", "Assistants keep instructions, tools and threads at the provider and run tools there. Use /v1/responses."},
	{"/audio/", "Audio is not read."},
	{"/images/", "Images are not read."},
	{"/videos", "Videos are not read."},
	{"/fine_tuning", "Training data lies in files that Guardbook does not see."},
	{"/evals", "An evaluation's data lies in files that Guardbook does not see."},
	{"/chat/completions/", "Stored completions would come past the guard. Keep what POST /v1/chat/completions gave."},
}

// Unguarded says why an endpoint is not guarded and what to use instead.
func (Protocol) Unguarded(_, path string) string {
	path = strings.TrimPrefix(path, "/v1")
	at := slices.IndexFunc(unguarded, func(u struct{ prefix, why string }) bool {
		return path == u.prefix || strings.HasPrefix(path, u.prefix)
	})
	if at < 0 {
		return ""
	}
	return unguarded[at].why
}

// Unguarded says why an endpoint is not guarded and what to use instead.
func (a Azure) Unguarded(method, path string) string {
	path = strings.TrimPrefix(path, "/openai")
	if name, ok := strings.CutPrefix(path, "/deployments/"); ok {
		_, rest, _ := strings.Cut(name, "/")
		path = "/" + rest
	}
	return a.Protocol.Unguarded(method, path)
}
