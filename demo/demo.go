// Package demo plays three stories against a Guardbook server, with small agents
// that use the official OpenAI and Anthropic SDKs over real HTTP through the
// gateway: a patient assistant that is talked into reading the billing table, a
// recommender that starts to publish customers' addresses, and a compromised
// researcher that somebody kills.
package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/guardbook/guardbook/demo/standin"
)

// The agents of the stories; starter policies name them.
const (
	PatientAssistant = "demo-patient-assistant"
	Recommender      = "demo-recommender"
	Researcher       = "demo-researcher"
)

// Operator is what the demo needs of the operator API.
type Operator interface {
	// Key creates the agent, or gives an existing one a new key.
	Key(ctx context.Context, agent, owner, purpose string) (string, error)
	// Kill and Lift contain an agent and let it go again.
	Kill(ctx context.Context, agent, reason string) error
	Lift(ctx context.Context, agent, reason string) error
}

// Options say where the demo plays.
type Options struct {
	Server   string // the server's address, without a trailing slash
	Operator Operator
	Out      io.Writer
	// Temporary says that the server goes away with the demo.
	Temporary bool
	// OpenAIModel and AnthropicModel are used when the upstream is a real
	// provider, not the stand-in.
	OpenAIModel, AnthropicModel string
}

// stage is one play of the demo.
type stage struct {
	o    Options
	keys map[string]string
	real bool // a real provider answers: what it says cannot be foretold
}

// Play plays the three stories and says what to look at.
func Play(ctx context.Context, o Options) error {
	s := &stage{o: o, keys: map[string]string{}}
	for _, a := range []struct{ name, purpose string }{
		{PatientAssistant, "answers patients' questions about appointments"},
		{Recommender, "writes public product recommendations"},
		{Researcher, "reads the web and sums it up"},
	} {
		key, err := o.Operator.Key(ctx, a.name, "demo@example.com", a.purpose)
		if err != nil {
			return fmt.Errorf("create agent %s: %w", a.name, err)
		}
		s.keys[a.name] = key
	}
	if err := s.findModel(ctx); err != nil {
		return err
	}
	for _, story := range []func(context.Context) error{s.poisonedResult, s.leakedAddresses, s.killedAgent} {
		if err := story(ctx); err != nil {
			return err
		}
	}
	if o.Temporary {
		s.say("\nThe temporary server is gone, and its book with it. For one that stays, with a dashboard to look at: make run, or guardbook serve.")
		return nil
	}
	s.say(`
What to look at:
  the dashboard    %s/
  what happened    guardbook events --agent %s
  one conversation guardbook replay demo-a
  the alerts       guardbook alerts list
  the book         guardbook book verify
  the evidence     guardbook evidence build --from 1h --to 0s --out evidence`, s.o.Server, PatientAssistant)
	return nil
}

// findModel asks the upstream, through the gateway, whether it is the stand-in.
func (s *stage) findModel(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.o.Server+"/openai/v1/models", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Guardbook-Key", s.keys[Recommender])
	req.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from the gateway: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the list of models: %w", err)
	}
	if resp.StatusCode == http.StatusOK && strings.Contains(string(b), standin.Model+"/") {
		return nil
	}
	if os.Getenv("OPENAI_API_KEY") == "" && os.Getenv("ANTHROPIC_API_KEY") == "" {
		return fmt.Errorf("the server's upstream is a real provider (its list of models answered %s) and neither OPENAI_API_KEY nor ANTHROPIC_API_KEY is set; "+
			"start the server with the stand-in as upstream (make run does) or set the keys", resp.Status)
	}
	s.real = true
	s.say("A real provider answers: the stories take the course that its model gives them.")
	return nil
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.o.Out, format+"\n", args...) }

// model is the model's name for an agent: the real one, or the agent's script.
func (s *stage) model(realName, script string) string {
	if s.real {
		return realName
	}
	return standin.Model + "/" + script
}

func (s *stage) openAI(agent, session string) openai.Client {
	return openai.NewClient(
		openaioption.WithBaseURL(s.o.Server+"/openai/v1/"),
		openaioption.WithAPIKey(orUnused(os.Getenv("OPENAI_API_KEY"))),
		openaioption.WithHeader("X-Guardbook-Key", s.keys[agent]),
		openaioption.WithHeader("X-Guardbook-Session", session),
		openaioption.WithRequestTimeout(2*time.Minute),
	)
}

func (s *stage) anthropic(agent, session string) anthropic.Client {
	return anthropic.NewClient(
		anthropicoption.WithBaseURL(s.o.Server+"/anthropic/"),
		anthropicoption.WithAPIKey(orUnused(os.Getenv("ANTHROPIC_API_KEY"))),
		anthropicoption.WithHeader("X-Guardbook-Key", s.keys[agent]),
		anthropicoption.WithHeader("X-Guardbook-Session", session),
		anthropicoption.WithRequestTimeout(2*time.Minute),
	)
}

// orUnused is a provider key for a stand-in that wants none.
func orUnused(key string) string {
	if key == "" {
		return "unused"
	}
	return key
}
