package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/demo"
	"github.com/guardbook/guardbook/demo/standin"
	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/instance"
)

func newDemo(c *cli) *cobra.Command {
	var openAIModel, anthropicModel, openAIUpstream, anthropicUpstream, standIn string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play three stories: a poisoned document, leaked addresses, a killed agent",
		Long: "Play three stories against the running server, or against a temporary one when none answers.\n\n" +
			"A stand-in for the model provider plays scripted turns. With OPENAI_API_KEY or ANTHROPIC_API_KEY set, or with an upstream\n" +
			"given, a temporary server talks to the real providers.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if standIn != "" {
				return c.serveStandIn(ctx, standIn)
			}
			o := demo.Options{Out: c.out, OpenAIModel: openAIModel, AnthropicModel: anthropicModel}
			if c.serverAnswers(ctx) {
				o.Server, o.Operator = c.serverURL(), operator{c}
				return demo.Play(ctx, o)
			}
			return c.temporaryDemo(ctx, o, openAIUpstream, anthropicUpstream)
		},
	}
	cmd.Flags().StringVar(&openAIModel, "openai-model", "gpt-5-mini", "model, when the real OpenAI API answers")
	cmd.Flags().StringVar(&anthropicModel, "anthropic-model", "claude-haiku-4-5", "model, when the real Anthropic API answers")
	cmd.Flags().StringVar(&openAIUpstream, "openai-upstream", "", "base URL of the OpenAI API for the temporary server")
	cmd.Flags().StringVar(&anthropicUpstream, "anthropic-upstream", "", "base URL of the Anthropic API for the temporary server")
	cmd.Flags().StringVar(&standIn, "serve-stand-in", "", "only run the stand-in for the providers, on this address")
	return cmd
}

// serverAnswers reports whether a Guardbook server is at the address.
func (c *cli) serverAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.serverURL()+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// serveStandIn runs the stand-in until ctx ends.
func (c *cli) serveStandIn(ctx context.Context, addr string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s for the stand-in: %w", addr, err)
	}
	return serveUntil(ctx, l, standin.New(demo.Scripts()))
}

func serveUntil(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := gateway.NewServer(h, slog.New(slog.DiscardHandler))
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// temporaryDemo plays against a server of its own, in a directory that goes away.
func (c *cli) temporaryDemo(ctx context.Context, o demo.Options, openAI, anthropic string) error {
	dir, err := os.MkdirTemp("", "guardbook-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	flags := map[string]string{"data": filepath.Join(dir, "data"), "listen": "127.0.0.1:0", "openai-upstream": openAI, "anthropic-upstream": anthropic}
	if openAI == "" && anthropic == "" && os.Getenv("OPENAI_API_KEY") == "" && os.Getenv("ANTHROPIC_API_KEY") == "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listen for the stand-in: %w", err)
		}
		go func() { _ = serveUntil(ctx, l, standin.New(demo.Scripts())) }()
		base := "http://" + l.Addr().String()
		flags["openai-upstream"], flags["anthropic-upstream"] = base+"/openai", base+"/anthropic"
	}
	// The temporary server takes nothing from the environment but provider keys.
	getenv := func(name string) string {
		if name == "OPENAI_API_KEY" || name == "ANTHROPIC_API_KEY" {
			return os.Getenv(name)
		}
		return ""
	}
	cfg, err := instance.Load(flags, getenv, "")
	if err != nil {
		return err
	}
	inst, err := instance.Start(ctx, cfg, tool(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- inst.Run(ctx) }()
	fmt.Fprintf(c.out, "No server answers at %s: the demo uses a temporary one, which goes away with its data at the end.\n", c.serverURL())
	c.data, c.url = cfg.Data, inst.URL()
	o.Server, o.Operator, o.Temporary = inst.URL(), operator{c}, true
	err = demo.Play(ctx, o)
	cancel()
	return errors.Join(err, <-served)
}

// operator is the demo's way to the operator API.
type operator struct{ c *cli }

func (o operator) Key(ctx context.Context, agent, owner, purpose string) (string, error) {
	var made struct {
		Agent string `json:"agent"`
		Key   string `json:"key"`
	}
	err := o.c.call(ctx, http.MethodPost, "/api/v1/agents", map[string]string{"name": agent, "owner": owner, "purpose": purpose}, &made)
	var api *apiError
	if errors.As(err, &api) && api.Status == http.StatusConflict {
		err = o.c.call(ctx, http.MethodPost, "/api/v1/agents/"+url.PathEscape(agent)+"/rotate", nil, &made)
	}
	return made.Key, err
}

func (o operator) Kill(ctx context.Context, agent, reason string) error {
	return o.c.call(ctx, http.MethodPost, "/api/v1/kill", map[string]string{"scope": "agent:" + agent, "reason": reason}, nil)
}

func (o operator) Lift(ctx context.Context, agent, reason string) error {
	return o.c.call(ctx, http.MethodPost, "/api/v1/lift", map[string]string{"scope": "agent:" + agent, "reason": reason}, nil)
}
